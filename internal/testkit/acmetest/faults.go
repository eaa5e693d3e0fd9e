package acmetest

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// Faults is a proxy in front of Pebble. It passes everything on until it is told to fail, and remembers what was asked.
type Faults struct {
	Directory string // URL, through the proxy
	server    *httptest.Server
	forward   *httputil.ReverseProxy

	mu       sync.Mutex
	rules    []*rule
	requests []string // paths, in their order
	clock    func() time.Time
}

type rule struct {
	path string
	left int // times; negative: for ever
	do   Fault
}

// Fault answers a request in the authority's place. Forward passes it on to the authority.
type Fault func(w http.ResponseWriter, r *http.Request, forward http.Handler)

// StartFaults starts a proxy in front of the authority. Its certificate is one that HTTP trusts.
func StartFaults(t T, ca *CA) *Faults {
	t.Helper()
	f := &Faults{}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Trust, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	f.forward = &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: ca.host})
			r.Out.Host = r.In.Host // Pebble makes its URLs of it, so that they lead here
		},
		ModifyResponse: func(answer *http.Response) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.clock != nil {
				answer.Header.Set("Date", f.clock().UTC().Format(http.TimeFormat))
			}
			return nil
		},
	}
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	f.Directory = f.server.URL + "/dir"
	return f
}

// Client is an HTTP transport that trusts the proxy.
func (f *Faults) Client() *http.Transport {
	return f.server.Client().Transport.(*http.Transport)
}

// CertificatePEM is the proxy's certificate, for programs that must trust it.
func (f *Faults) CertificatePEM() []byte { return testpki.CertPEM(f.server.Certificate()) }

// Fail has the next so many requests whose path starts with the prefix answered by the fault; a negative number: all.
func (f *Faults) Fail(prefix string, times int, do Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &rule{prefix, times, do})
}

// SetClock has the authority's answers be of the time that the clock tells.
func (f *Faults) SetClock(clock func() time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = clock
}

// Heal forgets all rules.
func (f *Faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Requests counts the requests so far whose path starts with the prefix.
func (f *Faults) Requests(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, path := range f.requests {
		if strings.HasPrefix(path, prefix) {
			n++
		}
	}
	return n
}

func (f *Faults) serve(w http.ResponseWriter, r *http.Request) {
	if do := f.match(r.URL.Path); do != nil {
		do(w, r, f.forward)
		return
	}
	f.forward.ServeHTTP(w, r)
}

func (f *Faults) match(path string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, path)
	i := slices.IndexFunc(f.rules, func(r *rule) bool { return r.left != 0 && strings.HasPrefix(path, r.path) })
	if i < 0 {
		return nil
	}
	f.rules[i].left--
	return f.rules[i].do
}

// Paths of Pebble.
const (
	DirectoryPath   = "/dir"
	NewNoncePath    = "/nonce-plz"
	NewAccountPath  = "/sign-me-up"
	NewOrderPath    = "/order-plz"
	OrderPath       = "/my-order/"
	AuthzPath       = "/authZ/"
	ChallengePath   = "/chalZ/"
	FinalizePath    = "/finalize-order/"
	CertificatePath = "/certZ/"
	KeyChangePath   = "/rollover-account-key"
	RenewalInfoPath = "/draft-ietf-acme-ari-03/renewalInfo/"
)

// Answer is a fault that answers with a status, a content type and a text. Headers are pairs of name and value.
func Answer(status int, contentType, text string, headers ...string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text) // the client may be gone
	}
}

// Problem is a fault that answers with a problem document (RFC 7807) of a type of ACME, such as "rateLimited".
func Problem(status int, kind, detail string, headers ...string) Fault {
	text := `{"type":"urn:ietf:params:acme:error:` + kind + `","detail":` + strconv.Quote(detail) + `,"status":` + decimal(status) + `}`
	return Answer(status, "application/problem+json", text, headers...)
}

// Cut is a fault that closes the connection without an answer; the authority sees nothing of the request.
func Cut(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// Lose is a fault that passes the request on, and closes the connection in place of the answer.
func Lose(_ http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// Endless is a fault that answers with a body of so many bytes.
func Endless(contentType string, size int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		block := []byte(strings.Repeat("x", 1<<16))
		for sent := int64(0); sent < size; sent += int64(len(block)) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

func decimal(n int) string { return strconv.Itoa(n) }
