package notify

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	oldSecret = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQh"
	newSecret = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXch"
)

// receiver is a webhook's other side; it keeps what came.
type receiver struct {
	header http.Header
	body   []byte
	count  int
}

func (r *receiver) start(t *testing.T, answer http.HandlerFunc) Webhook {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.count++
		r.header = request.Header
		r.body, _ = io.ReadAll(request.Body)
		answer(w, request)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of handshakes that fail on purpose
	server.StartTLS()
	t.Cleanup(server.Close)
	return Webhook{URL: server.URL + "/hook/path-that-is-secret", Secrets: []string{newSecret, oldSecret}, Client: server.Client()}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestReceiversThatKnowAnySecretVerifyTheWebhook(t *testing.T) {
	var r receiver
	if err := r.start(t, status(http.StatusNoContent)).Send(t.Context(), successorNotice()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{oldSecret, newSecret} {
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(r.body, r.header); err != nil {
			t.Errorf("%v in %v", err, r.header)
		}
		if err := verifier.Verify(append(r.body, ' '), r.header); err == nil {
			t.Error("a changed body passes")
		}
	}
	if id := r.header.Get("webhook-id"); id != "n-1" {
		t.Errorf("webhook-id %q", id)
	}
	if kind := r.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("content type %q", kind)
	}
}

func TestWebhookBodyHasTypeTimestampAndData(t *testing.T) {
	var r receiver
	if err := r.start(t, status(http.StatusOK)).Send(t.Context(), successorNotice()); err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(r.body, &body); err != nil {
		t.Fatal(err)
	}
	want := `{"data":{"certificate":{"expires_at":"2027-01-05T14:00:00Z","id":"11111111-1111","name":"billing","serial":"1f:0a","successor":{"expires_at":"2028-01-22T14:00:00Z","id":"22222222-2222","name":"billing","serial":"1f:0b"}},"command":"pgmtls certificates download orders --id 22222222-2222 --dir .","database":"orders","space":"main","summary":"orders: certificate billing expires on 2027-01-05, its successor is ready","text":"The client certificate billing of the database orders expires on 2027-01-05 14:00 UTC. Its successor was issued. Both are valid until then.\nGive the successor to the clients that use the old one. Without it they can't connect after that time."},"timestamp":"2026-10-22T14:00:00Z","type":"certificate.successor"}`
	if got, _ := json.Marshal(body); string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWebhookOfAClockHasItsProxyAndSkew(t *testing.T) {
	var r receiver
	if err := r.start(t, status(http.StatusOK)).Send(t.Context(), clockNotice(-10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	var body struct{ Data map[string]any }
	if err := json.Unmarshal(r.body, &body); err != nil {
		t.Fatal(err)
	}
	if _, named := body.Data["certificate"]; named || body.Data["proxy"] != "edge" || body.Data["clock_skew_seconds"] != -600.0 || body.Data["database"] != "orders" {
		t.Errorf("got %s", r.body)
	}
}

func TestWhatAReceiverSaysForGoodIsPermanent(t *testing.T) {
	for code, permanent := range map[int]bool{400: true, 401: true, 404: true, 410: true, 422: true, 408: false, 429: false, 301: false, 307: false, 500: false, 503: false} {
		var r receiver
		w := r.start(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "because\x1b\n"+strings.Repeat("x", 1<<20))
		})
		err := w.Send(t.Context(), successorNotice())
		if err == nil || errors.Is(err, ErrPermanent) != permanent {
			t.Errorf("%d: %v", code, err)
			continue
		}
		if r.count != 1 {
			t.Errorf("%d: %d requests: a redirect was followed", code, r.count)
		}
		if text := err.Error(); strings.ContainsAny(text, "\x1b\n") || len(text) > 600 || strings.Contains(text, "path-that-is-secret") {
			t.Errorf("%d: %q", code, text)
		}
	}
}

func TestWebhookTrustsOnlyKnownAuthorities(t *testing.T) {
	var r receiver
	w := r.start(t, status(http.StatusOK))
	w.Client = nil
	err := w.Send(t.Context(), successorNotice())
	if err == nil || errors.Is(err, ErrPermanent) || r.count > 0 || strings.Contains(err.Error(), "path-that-is-secret") {
		t.Errorf("%v, %d requests", err, r.count)
	}
}

func TestWebhookWithoutTLSReachesOnlyThisMachine(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) { got = request.Header.Get("webhook-id") }))
	t.Cleanup(server.Close)
	if err := (Webhook{URL: server.URL, Secrets: []string{newSecret}}).Send(t.Context(), successorNotice()); err != nil || got != "n-1" {
		t.Errorf("%v, %q", err, got)
	}
	for address, ok := range map[string]bool{"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, "192.0.2.1:80": false, "[2001:db8::1]:80": false, "": false} {
		if err := onlyLoopback(t.Context(), "tcp", address, nil); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestWebhookGivesUpOnASilentReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := roundTripper(func(request *http.Request) (*http.Response, error) {
			<-request.Context().Done()
			return nil, request.Context().Err()
		})
		w := Webhook{URL: "https://receiver.example.com/", Secrets: []string{newSecret}, Client: &http.Client{Transport: silent}}
		began := time.Now()
		err := w.Send(t.Context(), successorNotice())
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrPermanent) || took != webhookTimeout {
			t.Errorf("%v after %v", err, took)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestWebhookSettingsThatCanNotWork(t *testing.T) {
	for name, w := range map[string]Webhook{
		"no URL":               {Secrets: []string{newSecret}},
		"a path":               {URL: "/hook", Secrets: []string{newSecret}},
		"clear text elsewhere": {URL: "http://receiver.example.com/", Secrets: []string{newSecret}},
		"another scheme":       {URL: "ftp://localhost/", Secrets: []string{newSecret}},
		"a password":           {URL: "https://user:hunter22@receiver.example.com/", Secrets: []string{newSecret}},
		"a broken URL":         {URL: "https://hunter22\x7f/", Secrets: []string{newSecret}},
		"no secret":            {URL: "https://receiver.example.com/"},
		"a short secret":       {URL: "https://receiver.example.com/", Secrets: []string{"whsec_aHVudGVyMjI="}},
		"many secrets":         {URL: "https://receiver.example.com/", Secrets: []string{newSecret, newSecret, newSecret, newSecret, newSecret, newSecret}},
	} {
		if err := w.Check(); err == nil || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Send(t.Context(), successorNotice()); err == nil || errors.Is(err, ErrPermanent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsAreReadLineByLineAndNeverShown(t *testing.T) {
	got, err := ParseSecrets([]byte("# of the chat\n\n" + newSecret + "\r\n  " + oldSecret))
	if err != nil || len(got) != 2 || got[0] != newSecret || got[1] != oldSecret {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"", "# nothing\n", newSecret + "\nhunter22\n", "whsec_hunter22", strings.TrimPrefix(newSecret, "whsec_"), "whsec_" + strings.Repeat("A", 100)} {
		if got, err := ParseSecrets([]byte(text)); err == nil || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%q gives %q, %v", text, got, err)
		}
	}
}
