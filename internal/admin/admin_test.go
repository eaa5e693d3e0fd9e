package admin

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/metrics"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

// program is what the endpoint shows, without its data plane's listener.
type program struct {
	t        testing.TB
	dir      string
	ca       *testpki.CA
	server   *testpki.Pair
	keeper   *policy.Reloader
	sessions *session.Server
	admin    *Server
	handler  http.Handler
	clients  net.Listener // after serve
}

var started = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// built is what the program says that it was built from.
var built = buildinfo.Info{Version: "1.2.3", Revision: "0123", Go: "go1.26.11", Modules: map[string]string{"example.com/module": "v1.0.0"}}

func newProgram(t testing.TB) *program {
	t.Helper()
	p := &program{t: t, dir: t.TempDir(), ca: testpki.MustCA(t, "Space CA")}
	p.server = p.ca.MustIssue(t, testpki.Server("db.example.com", "*.db.example.com"))
	live := &policy.Live{}
	p.keeper = &policy.Reloader{Dir: p.dir, Live: live, Log: zerolog.Nop()}
	p.keeper.Builder.Backend = fresh(p.keeper.Builder.Backend)
	registry := prometheus.NewRegistry()
	p.sessions = session.New(session.Config{
		Policy:         live,
		Metrics:        metrics.New(registry, metrics.Process{Version: "1.2.3"}),
		Log:            zerolog.Nop(),
		StartupTimeout: 10 * time.Second,
	})
	p.admin = &Server{Policy: live, Sessions: p.sessions, Try: p.keeper.Try, Metrics: registry, Built: built, Started: started, PolicyDir: p.dir}
	p.handler = p.admin.HTTP().Handler
	p.write("ca.pem", p.ca.PEM())
	p.write("list.pem", p.ca.MustCRL(t, testpki.CRL{Revoked: nil, NextUpdate: time.Now().Add(-time.Minute)}))
	p.write("server.crt", p.server.CertPEM)
	p.write("server.key", p.server.KeyPEM)
	return p
}

// fresh makes a value of a type that the import table does not let tests of this package name.
func fresh[T any](*T) *T { return new(T) }

func (p *program) write(name string, text []byte) {
	p.t.Helper()
	if err := testpki.WriteFile(filepath.Join(p.dir, name), text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// apply looks at a policy with the lines.
func (p *program) apply(lines string) {
	p.t.Helper()
	p.write("policy.yaml", []byte("certificates: [{cert: server.crt, key: server.key, default: true}]\n"+lines))
	p.keeper.Load(context.Background())
}

const good = `generation: "42"
client_auth: required
client_ca: [ca.pem]
ip_rules:
  - {id: office, cidr: 203.0.113.0/24, description: "The <office>"}
  - {id: loopback, cidr: 127.0.0.1/32}
  - {id: guest, cidr: 198.51.100.0/24, expires_at: 2020-01-01T00:00:00Z}
`

// get asks, and wants the status code.
func (p *program) get(path string, code int) string {
	p.t.Helper()
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost"+path, nil))
	if answer.Code != code {
		p.t.Errorf("GET %s answers %d, want %d: %s", path, answer.Code, code, answer.Body)
	}
	return answer.Body.String()
}

// object is JSON that was asked for.
func (p *program) object(path string) map[string]any {
	p.t.Helper()
	var value map[string]any
	if err := json.Unmarshal([]byte(p.get(path, http.StatusOK)), &value); err != nil {
		p.t.Fatal(err)
	}
	return value
}

func TestAliveIsWhoeverAnswers(t *testing.T) {
	p := newProgram(t)
	for _, phase := range []Phase{Starting, Serving, Draining} {
		p.admin.SetPhase(phase)
		if text := p.get("/livez", http.StatusOK); text != "ok\n" {
			t.Errorf("%s: %q", phase, text)
		}
	}
}

func TestReadyIsWhoServesWithAPolicy(t *testing.T) {
	p := newProgram(t)
	for _, row := range []struct {
		what   string
		change func()
		code   int
		text   string
	}{
		{"at the start", func() {}, 503, "starting\n"},
		{"without a policy", func() { p.admin.SetPhase(Serving); p.keeper.Load(context.Background()) }, 503, "no policy in force: "},
		{"with a bad policy", func() { p.apply("generation: [") }, 503, "no policy in force: " + p.dir},
		{"with a policy", func() { p.apply(good) }, 200, "ok\n"},
		{"with a bad policy after a good one", func() { p.apply("generation: [") }, 200, "ok\n"},
		{"draining", func() { p.admin.SetPhase(Draining) }, 503, "draining\n"},
	} {
		row.change()
		if text := p.get("/readyz", row.code); !strings.HasPrefix(text, row.text) {
			t.Errorf("%s: %q, want %q", row.what, text, row.text)
		}
		if ready := p.object("/status")["ready"]; ready != (row.code == 200) {
			t.Errorf("%s: /status says ready: %v", row.what, ready)
		}
	}
}

func TestStatusBeforeThereIsAPolicy(t *testing.T) {
	p := newProgram(t)
	status := p.object("/status")
	if status["policy"] != nil || status["phase"] != "starting" || status["version"] != "1.2.3" || status["go"] != "go1.26.11" || status["revision"] != "0123" ||
		!reflect.DeepEqual(status["modules"], map[string]any{"example.com/module": "v1.0.0"}) || status["started_at"] != "2026-05-01T12:00:00Z" {
		t.Errorf("status is %v", status)
	}
	if status["policy_dir"] != p.dir {
		t.Errorf("it reads %v, want %s", status["policy_dir"], p.dir)
	}
	reload := status["reload"].(map[string]any)
	if _, there := reload["error"]; there || reload["failing_since"] != nil {
		t.Errorf("an error before the first look: %v", reload)
	}
	sessions := status["sessions"].(map[string]any)
	for _, state := range []string{"login", "outside_transaction", "in_transaction", "failed_transaction"} {
		if sessions[state] != 0.0 {
			t.Errorf("sessions are %v", sessions)
		}
	}
}

// The policy's own name for its database counts; what the proxy's configuration says is for policies without one.
func TestStatusNamesTheDatabase(t *testing.T) {
	p := newProgram(t)
	p.keeper.Builder.Database = "mine"
	for header, want := range map[string]string{"": "mine", "# written by pgmtls for database 38c466b6; generation 42\n# name: orders\n": "orders"} {
		p.write("policy.yaml", []byte(header+"certificates: [{cert: server.crt, key: server.key, default: true}]\n"+good+"...\n"))
		p.keeper.Load(t.Context())
		if got := p.object("/status")["policy"].(map[string]any)["database"]; got != want {
			t.Errorf("the database is %v, want %s", got, want)
		}
	}
}

func TestStatusTellsWhatIsInForceAndWhatIsWrong(t *testing.T) {
	p := newProgram(t)
	p.apply("client_crl: [list.pem]\n" + good)
	p.apply("generation: [")
	status := p.object("/status")
	reload := status["reload"].(map[string]any)
	if text, _ := reload["error"].(string); !strings.Contains(text, "policy.yaml") || reload["failing_since"] == nil || reload["checked_at"] == nil {
		t.Errorf("reload is %v", reload)
	}
	inForce := status["policy"].(map[string]any)
	if inForce["generation"] != "42" || inForce["client_auth"] != "required" || len(inForce["digest"].(string)) != 64 || inForce["loaded_at"] == nil {
		t.Errorf("policy is %v", inForce)
	}
	for list, want := range map[string]string{
		"ip_rules": `[{"cidr":"203.0.113.0/24","description":"The \u003coffice\u003e","id":"office","sessions":0},{"cidr":"127.0.0.1/32","id":"loopback","sessions":0},` +
			`{"cidr":"198.51.100.0/24","days_left":-`,
		"certificates": `[{"default":true,"issuer":"CN=Space CA","names":["*.db.example.com","db.example.com"],"not_after":"` +
			moment(p.server.Cert.NotAfter) + `","not_before":"` + moment(p.server.Cert.NotBefore) + `","serial":"`,
		"client_ca":  `[{"not_after":"` + moment(p.ca.Cert.NotAfter) + `","subject":"CN=Space CA"}]`,
		"client_crl": `[{"issuer":"CN=Space CA","next_update":"`,
	} {
		text, err := json.Marshal(inForce[list])
		if err != nil || !strings.HasPrefix(string(text), want) {
			t.Errorf("%s is  %s\nwant %s", list, text, want)
		}
	}
	if list := inForce["client_crl"].([]any)[0].(map[string]any); list["stale"] != true || list["revoked"] != 0.0 {
		t.Errorf("the list is shown as %v", list)
	}
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Lists that are empty are lists: a control plane need not tell null from none.
func TestStatusHasListsWhereThereIsNothing(t *testing.T) {
	p := newProgram(t)
	p.apply("generation: '1'\nclient_auth: off\nip_rules: []\n")
	inForce := p.object("/status")["policy"].(map[string]any)
	for _, list := range []string{"ip_rules", "client_ca", "client_crl"} {
		if values, ok := inForce[list].([]any); !ok || len(values) > 0 {
			t.Errorf("%s is %v", list, inForce[list])
		}
	}
}

func TestNothingIsSecretAndNothingIsCached(t *testing.T) {
	p := newProgram(t)
	p.admin.SetPhase(Serving)
	p.apply(good)
	for _, path := range []string{"/", "/livez", "/readyz", "/status", "/sessions", "/metrics"} {
		answer := httptest.NewRecorder()
		p.handler.ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost"+path, nil))
		body := answer.Body.String()
		if answer.Code != http.StatusOK {
			t.Errorf("%s answers %d", path, answer.Code)
		}
		for _, line := range strings.Split(string(p.server.KeyPEM), "\n")[1:3] {
			if strings.Contains(body, line) || strings.Contains(body, "PRIVATE") {
				t.Errorf("%s shows the private key", path)
			}
		}
		if path != "/metrics" && answer.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached", path)
		}
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	p := newProgram(t)
	for _, path := range []string{"/", "/livez", "/readyz", "/status", "/sessions", "/metrics"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"} {
			answer := httptest.NewRecorder()
			request := httptest.NewRequest(method, path, nil)
			request.Host = "localhost"
			p.handler.ServeHTTP(answer, request)
			if answer.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s answers %d", method, path, answer.Code)
			}
		}
	}
	p.get("/debug/pprof/", http.StatusNotFound)
	p.get("/status/", http.StatusNotFound)
}

func TestMetricsAreThoseOfTheRegistry(t *testing.T) {
	p := newProgram(t)
	if text := p.get("/metrics", http.StatusOK); !strings.Contains(text, `pgmtls_build_info{goversion=`) || !strings.Contains(text, `version="1.2.3"`) {
		t.Errorf("the scrape has no build_info: %.200s", text)
	}
}

func TestServeEndsCleanlyWhenItIsClosed(t *testing.T) {
	p := newProgram(t)
	server := p.admin.HTTP()
	l, err := net.Listen("unix", filepath.Join(shortDir(t), "admin"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Serve(server, l, MaxConns) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", l.Addr().String())
	}}}
	answer, err := client.Get("http://admin/livez")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", answer, err)
	}
	if err == nil {
		answer.Body.Close()
	}
	server.Close()
	if err := <-ended; err != nil {
		t.Errorf("a closed server ends with %v", err)
	}
	if err := Serve(p.admin.HTTP(), l, MaxConns); err == nil || !strings.HasPrefix(err.Error(), "serve admin address: ") {
		t.Errorf("on a listener that is closed: %v", err)
	}
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestIndexNamesTheOtherPages(t *testing.T) {
	p := newProgram(t)
	p.apply(good)
	p.admin.SetPhase(Serving)
	fields := strings.Fields(p.get("/", http.StatusOK))
	if !slices.Contains(fields, "1.2.3") {
		t.Errorf("the index is %q", fields)
	}
	for _, field := range fields {
		if strings.HasPrefix(field, "/") {
			p.get(field, http.StatusOK)
		}
	}
}

// Who waits for a place takes no memory, and a slow body costs the others nothing but a place.
func TestBodiesThatAreReadAtOnceAreBounded(t *testing.T) {
	p := newProgram(t)
	p.apply(good)
	var writers []*io.PipeWriter
	var requests sync.WaitGroup
	for range maxBodies {
		body, writer := io.Pipe()
		writers = append(writers, writer)
		requests.Go(func() { p.code("/dry-run", body) })
		if _, err := writer.Write([]byte("x")); err != nil { // it is being read
			t.Fatal(err)
		}
	}
	eventually.True(t, time.Minute, "every place for a body is taken", func() bool { return len(p.admin.bodies) == maxBodies })
	if code := p.code("/dry-run", strings.NewReader(good)); code != http.StatusTooManyRequests {
		t.Errorf("one more is answered with %d", code)
	}
	for _, writer := range writers {
		writer.Close()
	}
	requests.Wait()
	if code := p.code("/dry-run", strings.NewReader(served+good)); code == http.StatusTooManyRequests {
		t.Error("no place was given back")
	}
}

// code posts a body and gives the status of the answer.
func (p *program) code(path string, body io.Reader) int {
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, httptest.NewRequest("POST", "http://localhost"+path, body))
	return answer.Code
}
