package metrics

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pgmtls-proxy/internal/safetext"
)

// scrape makes at each scrape the series that others keep the books of, or that are replaced as a whole: a policy's
// series change all at once, and those of a certificate that is gone are gone.
type scrape struct {
	open                        *atomic.Int64
	unfinished, sessions, bytes *prometheus.Desc
	handshakes                  *prometheus.Desc
	generation, loaded, rules   *prometheus.Desc
	certificates, crls, leftOut *prometheus.Desc

	certificateBegins, crlBegins *prometheus.Desc
	logLost                      *prometheus.Desc

	table     atomic.Pointer[Sessions]
	computing atomic.Pointer[func() int]
	lost      atomic.Pointer[func() uint64]
	policy    atomic.Pointer[[]prometheus.Metric] // nil: there is none
}

// Sessions is the table of live sessions, as far as it is counted.
type Sessions interface {
	// EachState calls f once for every state that there is, with the number of live sessions in it, which may be 0.
	// The states are a closed set.
	EachState(f func(state string, sessions int))
	// Traffic is the plaintext, in bytes, that all sessions so far have moved, live ones included. It never shrinks.
	Traffic() (toClient, toServer int64)
}

// ObserveSessions makes each scrape ask the table.
func (m *Metrics) ObserveSessions(table Sessions) { m.scrape.table.Store(&table) }

// ObserveHandshakes makes each scrape ask how many handshakes compute.
func (m *Metrics) ObserveHandshakes(computing func() int) { m.scrape.computing.Store(&computing) }

// ObserveLog makes each scrape ask how many lines of the log were lost so far.
func (m *Metrics) ObserveLog(lost func() uint64) { m.scrape.lost.Store(&lost) }

// Role is what a certificate is for.
type Role string

// The roles.
const (
	RoleServer   Role = "server"    // shown to clients
	RoleClientCA Role = "client_ca" // verifies client certificates
	RoleBackend  Role = "backend"   // shown to PostgreSQL
)

// CertificateInfo is one certificate of the policy. If two of a role have the same serial, as roots may, the one that
// expires first is shown.
type CertificateInfo struct {
	Role                Role
	Serial              string // lower-case hex pairs with colons, as policy.yaml and /status write it
	NotBefore, NotAfter time.Time
}

// PolicyInfo is what the metrics tell of the policy in force.
type PolicyInfo struct {
	Generation   string
	Database     string // name; empty: unknown
	Rules        int
	LoadedAt     time.Time
	Certificates []CertificateInfo
	LeftOut      int       // server certificates of the policy that are not served
	CRLs         []CRLInfo // in the order of their positions
}

// CRLInfo is the time of a revocation list. One that never goes out of date has a zero NextUpdate, and no series.
type CRLInfo struct{ ThisUpdate, NextUpdate time.Time }

// maxGeneration bounds each label of policy_info, in bytes.
const maxGeneration = 64

// PolicyApplied replaces the series of the policy before by those of this one. A scrape sees the one or the other.
func (m *Metrics) PolicyApplied(info PolicyInfo) {
	s := &m.scrape
	series := []prometheus.Metric{
		gauge(s.generation, 1, safetext.Escape(info.Generation, maxGeneration), safetext.Escape(info.Database, maxGeneration)),
		gauge(s.loaded, seconds(info.LoadedAt)),
		gauge(s.rules, float64(info.Rules)),
		gauge(s.leftOut, float64(info.LeftOut)),
	}
	first := slices.Clone(info.Certificates)
	slices.SortStableFunc(first, func(a, b CertificateInfo) int { return a.NotAfter.Compare(b.NotAfter) })
	type key struct {
		role   Role
		serial string
	}
	seen := make(map[key]bool)
	for _, c := range first {
		if k := (key{c.Role, c.Serial}); !seen[k] {
			seen[k] = true
			series = append(series, gauge(s.certificates, seconds(c.NotAfter), string(c.Role), c.Serial),
				gauge(s.certificateBegins, seconds(c.NotBefore), string(c.Role), c.Serial))
		}
	}
	for i, list := range info.CRLs {
		if list.NextUpdate.IsZero() {
			continue
		}
		position := strconv.Itoa(i)
		series = append(series, gauge(s.crls, seconds(list.NextUpdate), position), gauge(s.crlBegins, seconds(list.ThisUpdate), position))
	}
	s.policy.Store(&series)
}

// Describe is prometheus.Collector's.
func (s *scrape) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.unfinished, s.sessions, s.bytes, s.handshakes, s.generation, s.loaded, s.rules, s.certificates, s.certificateBegins, s.crls, s.crlBegins, s.leftOut, s.logLost} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (s *scrape) Collect(to chan<- prometheus.Metric) {
	live := 0
	var toClient, toServer int64
	if table := s.table.Load(); table != nil {
		(*table).EachState(func(state string, sessions int) {
			live += sessions
			to <- gauge(s.sessions, float64(sessions), state)
		})
		toClient, toServer = (*table).Traffic()
	}
	to <- counter(s.bytes, float64(toClient), "to_client")
	to <- counter(s.bytes, float64(toServer), "to_server")
	// The two counts are not of one moment: a session may have come between them.
	to <- gauge(s.unfinished, float64(max(s.open.Load()-int64(live), 0)))

	computing := 0
	if ask := s.computing.Load(); ask != nil {
		computing = (*ask)()
	}
	to <- gauge(s.handshakes, float64(computing))

	var lost uint64
	if ask := s.lost.Load(); ask != nil {
		lost = (*ask)()
	}
	to <- counter(s.logLost, float64(lost))

	policy := s.policy.Load()
	if policy == nil {
		to <- gauge(s.loaded, 0)
		to <- gauge(s.rules, 0)
		to <- gauge(s.leftOut, 0)
		return
	}
	for _, series := range *policy {
		to <- series
	}
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
}

// seconds is Unix time; 0 for no time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
