package apiserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/registry/registrytest"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/syncbuf"
)

// plane is a control plane on a real store, served over TLS on loopback.
type plane struct {
	t         *testing.T
	store     *store.Store
	databases *informer.Hub
	registry  *registry.Registry
	trail     *audit.Trail
	queries   *proxyquery.Queries
	access    *access.Access
	server    *Server
	url       string
	roots     *x509.CertPool
	dirs      string // the policy root
	log       *syncbuf.Buffer
	plain     *http.Client // without a certificate

	admin, reader string // tokens
}

func newPlane(t *testing.T, change func(*Options)) *plane {
	t.Helper()
	return newPlaneOf(t, change)
}

// newPlaneOf is newPlane on a registry with more options.
func newPlaneOf(t *testing.T, change func(*Options), registered ...func(*registry.Options)) *plane {
	t.Helper()
	p := &plane{t: t, log: &syncbuf.Buffer{}}
	logger := zerolog.New(p.log)
	var err error
	if p.store, err = store.Open(t.Context(), store.Options{DataDir: t.TempDir() + "/etcd", Log: logger}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.store.Close() })
	docs := &docstore.Docs{Store: p.store, Ring: docstoretest.Ring(t, seal.Generate())}
	w := registrytest.On(docs, logger, registered...)
	p.registry, p.trail, p.queries = w.Registry, w.Trail, w.Queries
	if p.access, err = access.Open(t.Context(), access.Options{Docs: docs}); err != nil {
		t.Fatal(err)
	}
	p.dirs = t.TempDir()
	p.databases = informer.New(docs, logger)
	options := Options{Registry: p.registry, Hub: p.databases, Audit: p.trail, Queries: p.queries, Access: p.access, Store: p.store, Log: logger, Built: buildinfo.Info{Version: "v1.2.3", Go: "go1.26.11"},
		Node: "here", PolicyRoots: []string{p.dirs}, Rate: 1e6, Burst: 1e6}
	if change != nil {
		change(&options)
	}
	p.server = New(options)
	p.serve()
	p.admin = p.token(access.NewToken{Name: "admin", Kind: access.All})
	p.reader = p.token(access.NewToken{Name: "reader", Kind: access.Read})
	return p
}

// serve starts what a daemon starts, and ends it with the test.
func (p *plane) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.databases.Run(ctx) }) // its error is that of ctx
	running.Go(func() { p.server.Run(ctx) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	front := p.server.HTTP()
	front.TLSConfig = p.access.Control.TLSConfig(nil)
	running.Go(func() { front.ServeTLS(listener, "", "") })
	p.t.Cleanup(func() {
		front.Close()
		cancel()
		running.Wait()
	})
	p.url = "https://" + listener.Addr().String()
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM([]byte(p.access.Control.CertificatePEM()))
	p.plain = p.client(nil)
}

func (p *plane) token(n access.NewToken) string {
	p.t.Helper()
	_, presented, err := p.access.Tokens.Create(p.t.Context(), n)
	if err != nil {
		p.t.Fatal(err)
	}
	return presented
}

// client is one that trusts the control CA, with a certificate of its own or without.
func (p *plane) client(pair *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: p.roots}
	if pair != nil {
		config.Certificates = []tls.Certificate{*pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true}
	p.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// actorOfTests is who changes things behind the API's back.
var actorOfTests = audit.Actor{Name: "test"}

// ask is a request of a test.
type ask struct {
	method, path string // the path may have a query
	token        string
	client       *http.Client // nil: one without a certificate
	body         any          // a string goes as it is
	header       map[string]string
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (p *plane) request(a ask) *http.Request {
	p.t.Helper()
	var body io.Reader
	switch value := a.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(value)
	default:
		text, err := json.Marshal(value)
		if err != nil {
			p.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), a.method, p.url+a.path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	for name, value := range a.header {
		r.Header.Set(name, value)
	}
	return r
}

// ask sends a request, and holds the answer against the OpenAPI file.
func (p *plane) ask(a ask) answer {
	p.t.Helper()
	client := a.client
	if client == nil {
		client = p.plain
	}
	r := p.request(a)
	got, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	checkDescribed(p.t, r, got, body)
	return answer{status: got.StatusCode, header: got.Header, body: body}
}

// must wants a status, and reads the answer.
func (p *plane) must(status int, a ask, into any) answer {
	p.t.Helper()
	got := p.ask(a)
	if got.status != status {
		p.t.Fatalf("%s %s: got %d %s, want %d", a.method, a.path, got.status, got.body, status)
	}
	if into != nil {
		if err := json.Unmarshal(got.body, into); err != nil {
			p.t.Fatal(err)
		}
	}
	return got
}

// refused wants an error with a status and an id.
func (p *plane) refused(status int, id string, a ask) api.Error {
	p.t.Helper()
	var said api.Error
	p.must(status, a, &said)
	if said.ID != id {
		p.t.Errorf("%s %s: got the error id %s, want %s", a.method, a.path, said.ID, id)
	}
	return said
}

// database registers one with a proxy "edge" that has an agent.
func (p *plane) database(name string) api.Database {
	p.t.Helper()
	var db api.Database
	p.must(http.StatusCreated, ask{method: "POST", path: "/v1/databases", token: p.admin,
		body: api.NewDatabase{Name: name, Space: "acme", Hosts: []string{name + ".example.com"}, Proxies: []api.NewProxy{{Name: "edge"}}}}, &db)
	return db
}

func endpoint(database string) string { return "/postgres/v0/databases/" + database + "/tls-endpoint" }

// operational is a database whose mutual TLS is in force.
func (p *plane) operational(name string) api.Database {
	p.t.Helper()
	db := p.database(name)
	p.must(http.StatusCreated, ask{method: "POST", path: endpoint(name), token: p.admin}, nil)
	p.acknowledge(name)
	return db
}

// acknowledge has every proxy of a database say that everything is in force.
func (p *plane) acknowledge(name string) {
	p.t.Helper()
	db, err := p.registry.Database(p.t.Context(), name)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, proxy := range db.Proxies {
		if err := p.registry.Acknowledge(p.t.Context(), db.ID, proxy.Name, api.Report{Applied: db.Generation, InForce: db.Generation}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// reports has the proxy "edge" of a database report who uses what.
func (p *plane) reports(name string, use map[string]api.Usage) {
	p.t.Helper()
	db, err := p.registry.Database(p.t.Context(), name)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.registry.Acknowledge(p.t.Context(), db.ID, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Certificates: use}); err != nil {
		p.t.Fatal(err)
	}
}

// agent is an enrolled agent's side.
type agent struct {
	api.Certified
	client *http.Client
}

// enrol invites and enrols an agent of the database's proxy "edge".
func (p *plane) enrol(database string) agent {
	p.t.Helper()
	var invited api.Enrolment
	p.must(http.StatusCreated, ask{method: "POST", path: "/v1/agents", token: p.admin, body: api.NewEnrolment{Database: database, Proxy: "edge"}}, &invited)
	keyPEM, csr := newRequest(p.t)
	var certified api.Certified
	p.must(http.StatusCreated, ask{method: "POST", path: "/v1/agent/enroll", token: invited.Token, body: api.Certify{CSR: csr}}, &certified)
	return agent{certified, p.client(pair(p.t, certified.Certificate, keyPEM))}
}

func newRequest(t *testing.T) (keyPEM []byte, csr string) {
	t.Helper()
	key, keyPEM, err := authority.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func pair(t *testing.T, certificatePEM string, keyPEM []byte) *tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(certificatePEM), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// dir makes a directory below the policy root.
func (p *plane) dir(name string) string {
	p.t.Helper()
	path := filepath.Join(p.dirs, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// local is the body of a proxy beside the daemon.
func local(name, dir string) string {
	return fmt.Sprintf(`{"name": %q, "policy_dir": %q, "admin": "127.0.0.1:9815"}`, name, dir)
}
