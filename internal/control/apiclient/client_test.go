package apiclient_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

// serve starts a server with TLS and gives a client that trusts it.
func serve(t *testing.T, handler http.HandlerFunc) *apiclient.Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	client, err := apiclient.New(apiclient.Options{URL: server.URL + "/", CA: authority(server), Token: "pgmtls_1_s", UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdle)
	return client
}

func authority(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func TestURLsThatWouldShowTheTokenAreRefused(t *testing.T) {
	for _, good := range []string{"https://db.example.com:9816", "https://[2001:db8::1]/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"} {
		if _, err := apiclient.New(apiclient.Options{URL: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for typed, want := range map[string]string{
		"127.0.0.1:9816":                       "https://127.0.0.1:9816",
		"pgmtls.example.com":                   "https://pgmtls.example.com",
		"localhost:9816/":                      "https://localhost:9816",
		"[2001:db8::1]:9816":                   "https://[2001:db8::1]:9816",
		" https://pgmtls.example.com:9816//\n": "https://pgmtls.example.com:9816",
		"https://example.com/pgmtls/":          "https://example.com/pgmtls",
	} {
		client, err := apiclient.New(apiclient.Options{URL: typed})
		if err != nil || client.URL() != want {
			t.Errorf("%q: %v, want %s", typed, err, want)
		}
	}
	for bad, word := range map[string]string{
		"":                             "https://127.0.0.1:9816",
		"u:hunter2@host":               "no user",
		"https:/host":                  "https://127.0.0.1:9816",
		"http:host":                    "control plane's URL",
		"https://:9816":                "https://127.0.0.1:9816",
		"ftp://127.0.0.1":              "https://",
		"http://db.example.com":        "show the token",
		"http://127.0.0.1.example.com": "show the token",
		"https://u:hunter2@host":       "no user",
		"https://host/?x=1":            "no query",
		"https://u:hunter2@host:bad/":  "port",
	} {
		_, err := apiclient.New(apiclient.Options{URL: bad})
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, without %q", bad, err, word)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows the password: %v", bad, err)
		}
	}
	if _, err := apiclient.New(apiclient.Options{URL: "https://h", CA: []byte("x")}); err == nil {
		t.Error("a CA that is no PEM is taken")
	}
}

func TestTokenAndNameGoAlong(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer pgmtls_1_s" {
			t.Errorf("Authorization %q", got)
		}
		if got := r.Header.Get("User-Agent"); got != "test/1" {
			t.Errorf("User-Agent %q", got)
		}
		fmt.Fprint(w, `{"version":"v1.2.3"}`)
	})
	version, err := client.Version(t.Context())
	if err != nil || version.Version != "v1.2.3" {
		t.Fatalf("%+v, %v", version, err)
	}
}

func TestServerThatNobodyVouchesForIsNotAsked(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	server.Config.ErrorLog = silent()
	server.StartTLS()
	defer server.Close()
	client, err := apiclient.New(apiclient.Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Version(t.Context())
	var connection *apiclient.ConnectionError
	if !errors.As(err, &connection) || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("%v", err)
	}
}

func TestRefusalsBecomeErrorsOfTheAPI(t *testing.T) {
	cases := []struct {
		name, body string
		status     int
		want       api.Error
	}{
		{"of the control plane", `{"id":"not_found","message":"no such rule"}`, 404,
			api.Error{ID: "not_found", Message: "no such rule", Status: 404}},
		{"of a balancer", "<html>", 502, api.Error{ID: "internal", Message: "the server answers 502 Bad Gateway", Status: 502}},
		{"of another server", "404 page not found", 404,
			api.Error{ID: "bad_request", Message: "the server answers 404 Not Found, and not as the control plane does: is it the right URL?", Status: 404}},
		{"without words", `{"id":"conflict"}`, 409,
			api.Error{ID: "bad_request", Message: "the server answers 409 Conflict, and not as the control plane does: is it the right URL?", Status: 409}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(api.RequestIDHeader, "req-7")
				w.Header().Set("Retry-After", "3")
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			_, err := client.Rule(t.Context(), "db", "1")
			var got *api.Error
			if !errors.As(err, &got) {
				t.Fatalf("%v", err)
			}
			c.want.RequestID, c.want.RetryAfter = "req-7", 3*time.Second
			if *got != c.want {
				t.Errorf("%+v, not %+v", *got, c.want)
			}
		})
	}
}

func TestMessageOfARefusalIsBounded(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(422)
		fmt.Fprintf(w, `{"id":"invalid_params","message":%q}`, strings.Repeat("ä", 20000))
	})
	err := client.DeleteDatabase(t.Context(), "db")
	var refused *api.Error
	if !errors.As(err, &refused) || len(refused.Message) > 5000 {
		t.Fatalf("%T of %d bytes", err, len(err.Error()))
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))
	defer elsewhere.Close()
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	_, err := client.Databases(t.Context())
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusTemporaryRedirect {
		t.Fatalf("%v", err)
	}
}

func TestOnlyReadingIsTriedAgainAfterABrokenConnection(t *testing.T) {
	var asked atomic.Int32
	breaking := func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			hangUp(t, w)
			return
		}
		fmt.Fprint(w, `[]`)
	}
	client := serve(t, breaking)
	if _, err := client.Databases(t.Context()); err != nil || asked.Load() != 2 {
		t.Errorf("a GET: %v after %d attempts", err, asked.Load())
	}
	asked.Store(0)
	_, err := client.CreateRule(t.Context(), "db", api.NewRule{CIDR: "192.0.2.1/32"})
	var connection *apiclient.ConnectionError
	if !errors.As(err, &connection) || asked.Load() != 1 {
		t.Errorf("a POST: %v after %d attempts", err, asked.Load())
	}
}

func hangUp(t *testing.T, w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	conn.Close()
}

func TestRefusedReadingIsNotTriedAgain(t *testing.T) {
	var asked atomic.Int32
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(503)
		fmt.Fprint(w, `{"id":"unavailable","message":"the store is away"}`)
	})
	if _, err := client.Databases(t.Context()); err == nil || asked.Load() != 1 {
		t.Fatalf("%v after %d attempts", err, asked.Load())
	}
}

func TestCallEndsWithItsDeadline(t *testing.T) {
	gone := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-gone }))
	defer server.Close()
	defer close(gone)
	client, err := apiclient.New(apiclient.Options{URL: server.URL, Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Databases(t.Context()); err == nil {
		t.Fatal("no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.DeleteDatabase(ctx, "db"); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `["`)
		block := strings.Repeat("x", 1<<20)
		for range 17 {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
		io.WriteString(w, `"]`)
	})
	if _, err := client.Spaces(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Fatalf("%v", err)
	}
}

func TestNamesNeverBecomeSteps(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "../../v1/tokens", "%2e%2e", "a?b", "a#b", "é"} {
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
			if len(parts) != 3 || parts[0] != "v1" || parts[1] != "databases" || parts[2] == "." || parts[2] == ".." || parts[2] == "" {
				t.Errorf("%q asks for %s", name, r.URL.EscapedPath())
			}
			fmt.Fprint(w, "{}")
		})
		if _, err := client.Database(t.Context(), name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
