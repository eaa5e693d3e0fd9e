package control

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// web asks a daemon by HTTP as one caller. It is safe for concurrent use.
type web struct {
	base    string
	client  *http.Client
	dress   func(*http.Request) // what is particular about the caller's requests
	certify *tls.Certificate    // nil: without one
}

// web is a caller with a token, sent as Bearer; an empty one is not sent.
func (p *plane) web(t testing.TB, token string) *web {
	t.Helper()
	w := &web{base: p.url(t), dress: func(r *http.Request) {
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}}
	w.connect(t, readFile(t, filepath.Join(p.Dir, "control-ca.pem")))
	return w
}

// admin is the token that the daemon made at its first start.
func (p *plane) admin(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(readFile(t, filepath.Join(p.Dir, "admin.token")))
}

func (w *web) connect(t testing.TB, ca string) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("the control plane's CA is no PEM")
	}
	config := &tls.Config{RootCAs: roots}
	if w.certify != nil {
		config.Certificates = []tls.Certificate{*w.certify}
	}
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	w.client = &http.Client{Transport: transport, Timeout: patience}
}

// answer is what came back. Status is 0 when nothing did, and then nobody knows what was done.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send asks once. The error is that nothing came back.
func (w *web) send(method, path, body string) (answer, error) {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request, err := http.NewRequest(method, w.base+path, reader)
	if err != nil {
		return answer{}, err
	}
	w.dress(request)
	response, err := w.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{response.StatusCode, response.Header, text}, nil
}

// gets wants a status, and decodes the body into what is given; nil: nothing.
func (w *web) gets(t testing.TB, status int, request string, body string, into any) answer {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	got, err := w.send(method, path, body)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	if got.status != status {
		t.Fatalf("%s: %d, want %d: %s", request, got.status, status, got.body)
	}
	if into != nil {
		if err := json.Unmarshal(got.body, into); err != nil {
			t.Fatalf("%s: %v: %s", request, err, got.body)
		}
	}
	return got
}

// refused wants a status, and an error in the form of the API, with words in its message.
func (w *web) refused(t testing.TB, status int, request, words string) {
	t.Helper()
	var said struct{ ID, Message string }
	got := w.gets(t, status, request, "", &said)
	if said.ID == "" || !strings.Contains(said.Message, words) || got.header.Get("X-Request-Id") == "" {
		t.Errorf("%s: %d %s, request id %q; want %q", request, got.status, got.body, got.header.Get("X-Request-Id"), words)
	}
}

// fields is an object as it came over the wire.
type fields map[string]any

func (f fields) text(name string) string {
	text, _ := f[name].(string)
	return text
}

// has wants exactly these fields, and of those in optional any.
func (f fields) has(t testing.TB, names string, optional ...string) {
	t.Helper()
	want := map[string]bool{}
	for _, name := range strings.Fields(names) {
		want[name] = true
		if _, there := f[name]; !there {
			t.Errorf("no field %s in %v", name, f)
		}
	}
	for _, name := range optional {
		want[name] = true
	}
	for name := range f {
		if !want[name] {
			t.Errorf("nobody has asked for the field %s in %v", name, f)
		}
	}
}

// polled asks until a field has a value, as clients do that know no other way. With the value "404" it is until then.
func (w *web) polled(t testing.TB, path, field, value string) fields {
	t.Helper()
	var object fields
	eventually.OK(t, patience, func() error {
		object = nil
		got, err := w.send(http.MethodGet, path, "{}") // some clients send a body with everything
		switch {
		case err != nil:
			return err
		case value == "404" && got.status == http.StatusNotFound:
			return nil
		case got.status != http.StatusOK:
			return fmt.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
		if err := json.NewDecoder(bytes.NewReader(got.body)).Decode(&object); err != nil {
			return err
		}
		if object.text(field) != value {
			return errNotYet(object)
		}
		return nil
	})
	return object
}

// moment wants a time in RFC 3339.
func moment(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Error(errors.Join(errors.New("no time in RFC 3339"), err))
	}
	return at
}

func decoded(t testing.TB, text []byte) fields {
	var object fields
	if err := json.Unmarshal(text, &object); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	return object
}
