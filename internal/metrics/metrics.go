// Package metrics defines every Prometheus series of the proxy, in this file, and counts what it is told.
//
// It decides nothing and asks for nothing but three numbers at a scrape: what the table of sessions holds, how many
// handshakes compute, and how many lines the log has lost. Everybody who has something to count is given a *[Metrics]; package admin serves the registry.
//
// Labels come from closed sets: reasons, states, results, directions, roles, and for certificates the serials of
// those that the operator's own policy names. Never an address, a user, a database or anything else a client chose.
// The generation and the database of policy_info are the control plane's or the operator's, are cut at 64 bytes, and have
// one series.
package metrics

import (
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"pgmtls-proxy/internal/refusal"
)

// Metrics counts. Make it with [New]; its methods are safe for concurrent use, and those that are called for each
// connection do not allocate.
type Metrics struct {
	connections      prometheus.Counter
	openConnections  atomic.Int64
	probes           prometheus.Counter
	refusals         []prometheus.Counter // by refusal.Reason
	handshakes       [2]prometheus.Observer
	dials            prometheus.Observer
	dialErrors       prometheus.Counter
	sessionSeconds   prometheus.Observer
	policyInForce    prometheus.Observer
	cancelsForwarded prometheus.Counter
	cancelsDenied    prometheus.Counter
	cancelsFailed    prometheus.Counter
	reloads          map[ReloadResult]prometheus.Counter
	reloadSuccess    prometheus.Gauge
	acceptErrors     prometheus.Counter
	panics           prometheus.Counter
	draining         prometheus.Gauge

	scrape scrape
}

// Process is what does not change while the process runs.
type Process struct {
	Version       string // of the program
	SessionsLimit int    // limits.sessions; 0: no bound
}

// Buckets, in seconds. A handshake computes for about a millisecond and waits for two round trips; a dial of a unix
// socket takes tens of microseconds; a session lives from one query to a pool's month.
var (
	handshakeBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	dialBuckets      = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	inForceBuckets   = []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 60}
	sessionBuckets   = []float64{.1, 1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 7 * 86400, 30 * 86400}
)

// New registers every series, those of the Go runtime and of the process included. What can be known beforehand
// stands at zero from the start, so that a rate sees the first event. It panics if the registry has one already:
// each registry takes one Metrics.
func New(registry *prometheus.Registry, process Process) *Metrics {
	define := definer{registry}
	m := &Metrics{
		connections: define.counter("connections_total",
			"Accepted connections, whatever their outcome. Compare with refusals_total, probes_total and session_seconds_count."),
		probes: define.counter("probes_total",
			"Connections that closed before their first byte, as a load balancer's health checks do. Not an error."),
		dialErrors: define.counter("backend_dial_errors_total",
			"Failed dials of PostgreSQL. If it grows, PostgreSQL is down, unreachable, or its TLS can't be verified: the log has the error, and clients get 57P03."),
		acceptErrors: define.counter("accept_errors_total",
			"Failed accepts and socket options. If it grows, the process is out of descriptors or memory: raise LimitNOFILE or lower limits.sessions."),
		panics: define.counter("panics_total",
			"Panics while serving a connection. Anything but 0 is a bug in the proxy: the log has the stack; report it."),
		reloadSuccess: define.gauge("policy_last_reload_success",
			"1 if the policy on disk is the one in force. 0: it is invalid or was never read, and the last valid one stays in force; /status says what is wrong and since when."),
		draining: define.gauge("draining",
			"1 once a drain has begun: no new session begins, and live sessions have the grace period to end."),
		dials: define.histogram("backend_dial_seconds", dialBuckets,
			"Duration of successful dials of PostgreSQL, TLS included. If it grows, PostgreSQL accepts too slowly or the network is slow."),
		sessionSeconds: define.histogram("session_seconds", sessionBuckets,
			"Duration of sessions that have ended, from their accept. Many short ones: clients connect for each query, and a pool would save the handshakes."),
	}

	m.policyInForce = define.histogram("policy_in_force_seconds", inForceBuckets,
		"Time from when a new policy applies to new connections until the last session that it no longer allows has ended. More than a second: sessions in long queries use their end_grace.")

	refusals := define.counters("refusals_total", "reason",
		"Connections refused, and sessions ended by the proxy, by reason: docs/refusals.md says what to do about each.")
	m.refusals = make([]prometheus.Counter, len(refusal.All())+1)
	for _, reason := range refusal.All() {
		m.refusals[reason] = refusals.WithLabelValues(reason.String())
	}

	handshakes := define.histograms("handshake_seconds", "result", handshakeBuckets,
		"Duration of TLS handshakes with clients, including their round trips and the wait for a processor. If result=\"ok\" grows, raise limits.handshakes or give more CPU, or the clients are far away.")
	m.handshakes = [2]prometheus.Observer{handshakes.WithLabelValues("failed"), handshakes.WithLabelValues("ok")}

	cancels := define.counters("cancel_requests_total", "result",
		"Cancel requests, by result. Many denied: a client guesses keys, or requests reach another proxy than their session (see cancel_requests in the configuration). Failed: PostgreSQL could not be reached.")
	m.cancelsForwarded = cancels.WithLabelValues("forwarded")
	m.cancelsDenied = cancels.WithLabelValues("denied")
	m.cancelsFailed = cancels.WithLabelValues("failed")

	reloads := define.counters("policy_reloads_total", "result",
		"Looks at the policy directory, by result. Refused grows: the control plane writes an invalid policy, see policy_last_reload_success.")
	m.reloads = make(map[ReloadResult]prometheus.Counter)
	for _, result := range []ReloadResult{ReloadApplied, ReloadUnchanged, ReloadRefused} {
		m.reloads[result] = reloads.WithLabelValues(string(result))
	}

	define.gauge("sessions_limit",
		"Sessions that may be live at once (limits.sessions); 0 is no bound. At the limit, clients are refused with 53300.").Set(float64(process.SessionsLimit))
	build := define.gauges("build_info", []string{"version", "goversion"},
		"Always 1; the labels have the running version and the Go version that built it.")
	build.WithLabelValues(process.Version, runtime.Version()).Set(1)

	m.scrape = scrape{
		open: &m.openConnections,
		unfinished: define.described("unfinished_connections",
			"Open connections that are not sessions: in the handshake, being refused, cancelling. If it stays high, clients are stuck in the handshake, or the port is flooded."),
		sessions: define.described("sessions",
			"Live sessions, by their state in the protocol. Many in failed_transaction or in_transaction for a long time: applications do not end their transactions.", "state"),
		bytes: define.described("bytes_total",
			"Plaintext relayed, live sessions included, by direction.", "direction"),
		handshakes: define.described("handshakes_in_flight",
			"TLS handshakes that are computing. At limits.handshakes others wait: a flood, or too little CPU."),
		generation: define.described("policy_info",
			"Always 1; the labels have the generation of the policy in force, and the name of its database if that is known. Absent: no policy has been valid yet, and every client is refused.", "generation", "database"),
		loaded: define.described("policy_loaded_timestamp_seconds",
			"When the policy in force was loaded, in Unix time; 0: there is none."),
		rules: define.described("policy_rules",
			"IP rules in force, expired ones included. 0: nobody can connect."),
		leftOut: define.described("policy_certificates_left_out",
			"Server certificates of the policy in force that are not served, because they had expired when they came. Not 0: the others serve, and /status has the reason."),
		certificates: define.described("certificate_not_after_seconds",
			"When the certificate expires, in Unix time. role server: shown to clients; client_ca: verifies client certificates, all of which are refused after it; backend: the proxy's own at PostgreSQL. Renew before.", "role", "serial"),
		certificateBegins: define.described("certificate_not_before_seconds",
			"When the certificate's validity begins, in Unix time, with the labels of certificate_not_after_seconds: how soon is too soon depends on its lifetime.", "role", "serial"),
		crlBegins: define.described("crl_this_update_seconds",
			"When the revocation list was issued, in Unix time, with the label of crl_next_update_seconds.", "position"),
		crls: define.described("crl_next_update_seconds",
			"When the revocation list goes out of date, in Unix time, by its position in client_crl from 0. After that, every client certificate that it covers is refused: publish a new one before.", "position"),
		logLost: define.described("log_lines_dropped_total",
			"Lines of the log that were lost, because its reader is too slow or gone, or its disk is full. Nothing waits for the log; the other series count what happened meanwhile."),
	}
	registry.MustRegister(&m.scrape, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// definer makes series and registers them under the common prefix.
type definer struct{ registry *prometheus.Registry }

const prefix = "pgmtls_"

func (d definer) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	d.registry.MustRegister(c)
	return c
}

func (d definer) counters(name, label, help string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
	d.registry.MustRegister(c)
	return c
}

func (d definer) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
	d.registry.MustRegister(g)
	return g
}

func (d definer) gauges(name string, labels []string, help string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, labels)
	d.registry.MustRegister(g)
	return g
}

func (d definer) histogram(name string, buckets []float64, help string) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets})
	d.registry.MustRegister(h)
	return h
}

func (d definer) histograms(name, label string, buckets []float64, help string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, []string{label})
	d.registry.MustRegister(h)
	return h
}

// described is a series that is made at each scrape: see [scrape].
func (definer) described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}
