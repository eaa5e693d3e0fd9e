package metrics

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pgmtls-proxy/internal/refusal"
)

// books is a table of sessions.
type books struct{ states map[string]int }

func (b books) EachState(f func(state string, sessions int)) {
	for state, n := range b.states {
		f(state, n)
	}
}

func (books) Traffic() (toClient, toServer int64) { return 1 << 40, 17 }

func newMetrics() (*Metrics, *prometheus.Registry) {
	registry := prometheus.NewPedanticRegistry()
	return New(registry, Process{Version: "1.2.3", SessionsLimit: 100}), registry
}

// busy is a proxy that has told everything there is to tell.
func busy() (*Metrics, *prometheus.Registry) {
	m, registry := newMetrics()
	m.ObserveSessions(books{map[string]int{"login": 1, "in_transaction": 0}})
	m.ObserveHandshakes(func() int { return 3 })
	for range 5 {
		m.ConnectionOpened()
	}
	m.ConnectionClosed()
	m.PolicyReloaded(ReloadApplied)
	m.PolicyApplied(policy)
	return m, registry
}

var (
	noon   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	policy = PolicyInfo{
		Generation: "42", Database: "orders", Rules: 2, LoadedAt: noon,
		Certificates: []CertificateInfo{
			{RoleServer, "0a:ff", noon.Add(-time.Hour), noon.Add(time.Hour)},
			{RoleClientCA, "01", noon, noon.Add(2 * time.Hour)},
			{RoleClientCA, "01", noon.Add(-time.Minute), noon.Add(time.Hour)},
			{RoleBackend, "01", noon, noon.Add(3 * time.Hour)},
		},
		CRLs: []CRLInfo{{noon.Add(-time.Hour), noon}, {}, {noon, noon.Add(time.Minute)}},
	}
)

// want compares the text of some series with what a scrape gives, HELP and TYPE aside.
func want(t *testing.T, registry *prometheus.Registry, lines ...string) {
	t.Helper()
	all := scraped(t, registry)
	for _, line := range lines {
		if !slices.Contains(all, line) {
			name, _, _ := strings.Cut(line, " ")
			name, _, _ = strings.Cut(name, "{")
			var near []string
			for _, other := range all {
				if strings.HasPrefix(other, name) {
					near = append(near, other)
				}
			}
			t.Errorf("no %q in the scrape, which has %q", line, near)
		}
	}
}

// scraped are the series as Prometheus reads them.
func scraped(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("the scrape fails: %s", answer.Body)
	}
	var lines []string
	for line := range strings.Lines(answer.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestNamesAndHelpAreGood(t *testing.T) {
	_, registry := busy()
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := f.GetName()
		if !strings.HasPrefix(name, "pgmtls_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s has none of our prefixes", name)
		}
		if strings.HasPrefix(name, "pgmtls_") && !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: HELP %q is no sentence", name, f.GetHelp())
		}
	}
}

// TestSeriesAreTheDocumentedOnes compares with testdata/series.txt: a name, a type and the label names per line. The
// documentation, the alert rules and the dashboard are tested against that file.
func TestSeriesAreTheDocumentedOnes(t *testing.T) {
	_, registry := busy()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "pgmtls_") {
			continue
		}
		labels := map[string]bool{}
		for _, series := range f.GetMetric() {
			for _, label := range series.GetLabel() {
				labels[label.GetName()] = true
			}
		}
		fields := append([]string{f.GetName(), strings.ToLower(f.GetType().String())}, slices.Sorted(maps.Keys(labels))...)
		got.WriteString(strings.Join(fields, " ") + "\n")
	}
	golden, err := os.ReadFile("testdata/series.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(golden) {
		t.Errorf("the series are not those of testdata/series.txt. They are now:\n%s", got.String())
	}
}

func TestEveryCounterStartsAtZero(t *testing.T) {
	_, registry := newMetrics()
	for _, reason := range refusal.All() {
		want(t, registry, `pgmtls_refusals_total{reason="`+reason.String()+`"} 0`)
	}
	want(t, registry,
		`pgmtls_policy_reloads_total{result="refused"} 0`,
		`pgmtls_policy_last_reload_success 0`,
		`pgmtls_policy_loaded_timestamp_seconds 0`,
		`pgmtls_policy_rules 0`,
		`pgmtls_cancel_requests_total{result="failed"} 0`,
		`pgmtls_bytes_total{direction="to_client"} 0`,
		`pgmtls_handshake_seconds_count{result="failed"} 0`,
		`pgmtls_handshakes_in_flight 0`,
		`pgmtls_unfinished_connections 0`,
		`pgmtls_sessions_limit 100`,
		`pgmtls_draining 0`,
	)
}

func TestEachEventCountsWhereItBelongs(t *testing.T) {
	m, registry := busy()
	failed := errors.New("planted")
	m.Probed()
	m.Refused(refusal.AddressNotAllowed)
	m.Refused(0)
	m.Refused(255)
	m.Handshaken(2*time.Millisecond, nil)
	m.Handshaken(3*time.Second, failed)
	m.Dialed(200*time.Microsecond, nil)
	m.Dialed(5*time.Second, failed)
	m.SessionEnded(36 * time.Hour)
	m.CancelForwarded()
	m.CancelDenied()
	m.CancelFailed()
	m.AcceptFailed()
	m.Panicked()
	m.DrainBegan()
	want(t, registry,
		`pgmtls_connections_total 5`,
		`pgmtls_unfinished_connections 3`, // 5 opened, 1 closed, 1 a session
		`pgmtls_sessions{state="login"} 1`,
		`pgmtls_sessions{state="in_transaction"} 0`,
		`pgmtls_bytes_total{direction="to_client"} 1.099511627776e+12`,
		`pgmtls_bytes_total{direction="to_server"} 17`,
		`pgmtls_handshakes_in_flight 3`,
		`pgmtls_probes_total 1`,
		`pgmtls_refusals_total{reason="address_not_allowed"} 1`,
		`pgmtls_refusals_total{reason="internal_error"} 2`,
		`pgmtls_handshake_seconds_bucket{result="ok",le="0.0025"} 1`,
		`pgmtls_handshake_seconds_bucket{result="ok",le="0.001"} 0`,
		`pgmtls_handshake_seconds_sum{result="failed"} 3`,
		`pgmtls_backend_dial_seconds_count 1`,
		`pgmtls_backend_dial_seconds_sum 0.0002`,
		`pgmtls_backend_dial_errors_total 1`,
		`pgmtls_session_seconds_bucket{le="86400"} 0`,
		`pgmtls_session_seconds_bucket{le="604800"} 1`,
		`pgmtls_cancel_requests_total{result="forwarded"} 1`,
		`pgmtls_cancel_requests_total{result="denied"} 1`,
		`pgmtls_cancel_requests_total{result="failed"} 1`,
		`pgmtls_accept_errors_total 1`,
		`pgmtls_panics_total 1`,
		`pgmtls_draining 1`,
	)
}

func TestPolicyReplacesTheSeriesOfTheOneBefore(t *testing.T) {
	m, registry := busy()
	want(t, registry,
		`pgmtls_policy_info{database="orders",generation="42"} 1`,
		`pgmtls_policy_rules 2`,
		`pgmtls_policy_loaded_timestamp_seconds 1.7953488e+09`,
		`pgmtls_certificate_not_after_seconds{role="server",serial="0a:ff"} 1.7953524e+09`,
		`pgmtls_certificate_not_after_seconds{role="client_ca",serial="01"} 1.7953524e+09`, // the earlier of two
		`pgmtls_certificate_not_after_seconds{role="backend",serial="01"} 1.7953596e+09`,
		`pgmtls_certificate_not_before_seconds{role="server",serial="0a:ff"} 1.7953452e+09`,
		`pgmtls_certificate_not_before_seconds{role="client_ca",serial="01"} 1.79534874e+09`, // of the same
		`pgmtls_crl_this_update_seconds{position="0"} 1.7953452e+09`,
		`pgmtls_crl_this_update_seconds{position="2"} 1.7953488e+09`,
		`pgmtls_crl_next_update_seconds{position="0"} 1.7953488e+09`,
		`pgmtls_crl_next_update_seconds{position="2"} 1.79534886e+09`,
	)
	m.PolicyApplied(PolicyInfo{Generation: "43\xff" + strings.Repeat("x", 100), LoadedAt: noon})
	want(t, registry, `pgmtls_policy_info{database="",generation="43\\xff`+strings.Repeat("x", 61)+`…"} 1`, `pgmtls_policy_rules 0`)
	for _, line := range scraped(t, registry) {
		if strings.Contains(line, "certificate_not_after") || strings.Contains(line, "crl_next") || strings.Contains(line, `"42"`) {
			t.Errorf("%s is still there", line)
		}
	}
}

func TestRefusedReloadShowsUntilTheNextGoodOne(t *testing.T) {
	m, registry := busy()
	for _, row := range []struct {
		result ReloadResult
		gauge  string
	}{{ReloadRefused, "0"}, {ReloadUnchanged, "1"}, {ReloadRefused, "0"}, {ReloadApplied, "1"}} {
		m.PolicyReloaded(row.result)
		want(t, registry, `pgmtls_policy_last_reload_success `+row.gauge)
	}
	want(t, registry, `pgmtls_policy_reloads_total{result="refused"} 2`, `pgmtls_policy_reloads_total{result="applied"} 2`)
}

func TestUnfinishedConnectionsAreNeverNegative(t *testing.T) {
	m, registry := newMetrics()
	m.ObserveSessions(books{map[string]int{"login": 2}})
	want(t, registry, `pgmtls_unfinished_connections 0`)
}

func TestCountingAConnectionAllocatesNothing(t *testing.T) {
	m, _ := newMetrics()
	failed := errors.New("planted")
	allocated := testing.AllocsPerRun(100, func() {
		m.ConnectionOpened()
		m.Probed()
		m.Refused(refusal.AddressNotAllowed)
		m.Handshaken(time.Millisecond, nil)
		m.Handshaken(time.Millisecond, failed)
		m.Dialed(time.Millisecond, nil)
		m.Dialed(time.Millisecond, failed)
		m.SessionEnded(time.Hour)
		m.CancelForwarded()
		m.CancelDenied()
		m.CancelFailed()
		m.AcceptFailed()
		m.ConnectionClosed()
	})
	if allocated != 0 {
		t.Errorf("%v allocations per connection, want none", allocated)
	}
}
