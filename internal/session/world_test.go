package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/metrics"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/testkit/testpki"
)

// pki is the space of all tests: certificates that are good by the real clock and by the fake one, which starts in the
// year 2000.
var pki = sync.OnceValue(func() *space {
	authority := always(testpki.Authority("Space CA"))
	must := panicking{}
	s := &space{ca: testpki.MustNewCA(must, authority), stranger: testpki.MustNewCA(must, always(testpki.Authority("Stranger CA")))}
	s.server = s.ca.MustIssue(must, always(testpki.Server("db.test")))
	s.app = s.ca.MustIssue(must, always(testpki.Client("app")))
	s.other = s.ca.MustIssue(must, always(testpki.Client("other")))
	s.foreign = s.stranger.MustIssue(must, always(testpki.Client("app")))
	return s
})

type space struct {
	ca, stranger                *testpki.CA
	server, app, other, foreign *testpki.Pair
}

func always(t testpki.Template) testpki.Template {
	t.NotBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	t.NotAfter = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	return t
}

// panicking is the Fataler of what all tests share.
type panicking struct{}

func (panicking) Helper()           {}
func (panicking) Fatal(args ...any) { panic(args) }

// Addresses that the tests come from.
var (
	home     = netip.MustParseAddr("203.0.113.7") // allowed
	office   = netip.MustParseAddr("198.51.100.4")
	outside  = netip.MustParseAddr("192.0.2.200") // not allowed, in no rule
	bothIn   = `ip_rules: [{id: home, cidr: 203.0.113.0/24}, {id: office, cidr: 198.51.100.0/24}]`
	officeIn = `ip_rules: [{id: office, cidr: 198.51.100.0/24}]`
)

// world is a proxy without a listener: what it is made of, and a database that the test plays.
type world struct {
	t        testing.TB
	dir      string
	keeper   *policy.Reloader
	live     *policy.Live
	sessions *Server
	database *postgres
	registry *prometheus.Registry
	journal  *journal
}

// newWorld starts a proxy with a policy that lets home and office in with a certificate, unless the change says
// otherwise.
func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), live: &policy.Live{}, registry: prometheus.NewRegistry(), journal: &journal{}}
	w.database = &postgres{t: t}
	w.write("ca.pem", pki().ca.PEM(), 0o644)
	w.write("server.crt", pki().server.CertPEM, 0o644)
	w.write("server.key", pki().server.KeyPEM, 0o600)
	w.keeper = &policy.Reloader{Dir: w.dir, Live: w.live, Log: zerolog.Nop()}
	w.keeper.Builder.Backend = fresh(w.keeper.Builder.Backend)
	config := Config{
		Policy:         w.live,
		Metrics:        metrics.New(w.registry, metrics.Process{Version: "test"}),
		Log:            zerolog.New(w.journal),
		StartupTimeout: 10 * time.Second,
		Handshakes:     4,
	}
	if change != nil {
		change(&config)
	}
	w.sessions = New(config)
	w.sessions.database = func(*policy.Snapshot) database { return w.database }
	w.apply("1", bothIn)
	t.Cleanup(w.close)
	return w
}

// fresh makes a value of a type that the import table does not let tests of this package name.
func fresh[T any](*T) *T { return new(T) }

// close ends the proxy.
func (w *world) close() {
	w.sessions.Table().Abort()
	w.wait()
}

// wait returns when every connection is over and recorded.
func (w *world) wait() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.sessions.Wait(ctx); err != nil {
		w.t.Errorf("connections are left: %v", err)
	}
}

func (w *world) write(name string, text []byte, mode os.FileMode) {
	w.t.Helper()
	if err := testpki.WriteFile(filepath.Join(w.dir, name), text, mode); err != nil {
		w.t.Fatal(err)
	}
}

// apply puts a policy in force: its generation and the lines that are not always the same. Client certificates are
// required unless the lines say otherwise.
func (w *world) apply(generation string, lines ...string) {
	w.t.Helper()
	w.write("policy.yaml", []byte(policyText(generation, lines...)), 0o644)
	w.keeper.Load(context.Background())
	if status := w.live.Status(); status.Error != "" {
		w.t.Fatal(status.Error)
	}
}

// policyText has the rules at its end, wherever they are among the lines.
func policyText(generation string, lines ...string) string {
	lines = append([]string{"generation: '" + generation + "'", "certificates: [{cert: server.crt, key: server.key, default: true}]"}, lines...)
	if !strings.Contains(strings.Join(lines, "\n"), "client_auth") {
		lines = append(lines, "client_auth: required\nclient_ca: [ca.pem]")
	}
	rules := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "ip_rules") })
	if rules >= 0 {
		lines = append(slices.Delete(slices.Clone(lines), rules, rules+1), lines[rules])
	}
	return strings.Join(lines, "\n") + "\n"
}

// metric is the sum of the series of a name that have all the label values.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	total, found := 0.0, false
	for _, family := range families {
		if family.GetName() != "pgmtls_"+name {
			continue
		}
	series:
		for _, series := range family.GetMetric() {
			for i, label := range series.GetLabel() {
				if i < len(labels) && label.GetValue() != labels[i] {
					continue series
				}
			}
			found = true
			total += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		w.t.Errorf("there is no series %s %v", name, labels)
	}
	return total
}

// refused is how often the reason was given.
func (w *world) refused(reason string) int { return int(w.metric("refusals_total", reason)) }

// journal takes the log, one event per write.
type journal struct {
	mu    sync.Mutex
	lines [][]byte
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, bytes.Clone(p))
	return len(p), nil
}

// text is all of the log.
func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(bytes.Join(j.lines, nil))
}

// events are the lines, each of which must be one JSON object.
func (j *journal) events(t testing.TB) []map[string]any {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	events := make([]map[string]any, 0, len(j.lines))
	for _, line := range j.lines {
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil || bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("no line of JSON (%v): %q", err, line)
		}
		events = append(events, event)
	}
	return events
}

// last is the last event of the log.
func (w *world) last() map[string]any {
	w.t.Helper()
	events := w.journal.events(w.t)
	if len(events) == 0 {
		w.t.Fatal("nothing was logged")
	}
	return events[len(events)-1]
}

// clientTLS is what a client verifies the proxy with, and the certificate that it has, if any.
func clientTLS(certificate *testpki.Pair) *tls.Config {
	config := &tls.Config{RootCAs: pki().ca.Pool(), ServerName: "db.test", NextProtos: []string{alpn}}
	if certificate != nil {
		// Whatever the server says which CAs it knows: that a stranger's certificate is sent is the point.
		pair := certificate.TLS()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config
}
