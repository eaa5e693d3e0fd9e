package apiserver

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
)

// counts are the series of the API. Their labels are methods, paths of the table and status codes: closed sets,
// whatever is asked.
type counts struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  *prometheus.GaugeVec
}

func newCounts(registry *prometheus.Registry, state controlState) *counts {
	c := &counts{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgmtls_api_requests_total", Help: "Requests by method, route and status code; 401 and 403 are refused callers, 499 are clients that disconnected."}, []string{"method", "route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pgmtls_api_request_seconds", Help: "Time from a request's header to the end of its response, without streams.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"method", "route"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pgmtls_api_streams", Help: "Open streams by route."}, []string{"route"}),
	}
	registry.MustRegister(c.requests, c.seconds, c.streams, state)
	return c
}

func (c *counts) request(call *call, took time.Duration) {
	name := method(call.r.Method)
	c.requests.WithLabelValues(name, call.route.path, strconv.Itoa(call.w.status)).Inc()
	if !call.route.stream {
		c.seconds.WithLabelValues(name, call.route.path).Observe(took.Seconds())
	}
}

// open counts a stream until its end.
func (c *counts) open(route string) (closed func()) {
	gauge := c.streams.WithLabelValues(route)
	gauge.Inc()
	return gauge.Dec
}

// controlState is the state of the control plane as series, looked up when somebody asks.
type controlState struct {
	registry *registry.Registry
	store    *store.Store
	leading  func() bool
	lost     func() uint64
	now      func() time.Time
}

var (
	descUp         = describe("up", "Whether the store is readable and writable.")
	descDatabases  = describe("databases", "Databases.")
	descProxies    = describe("proxies", "Number of proxies of all databases.")
	descBehind     = describe("proxies_behind", "Number of proxies that do not have the newest policy of their database in force.")
	descFailing    = describe("proxies_failing", "Number of proxies that refused their policy, can't be reached, or whose files another program changed; without those of databases that have no policy yet.")
	descOldest     = describe("oldest_unacknowledged_seconds", "Age of the oldest change that is not in force everywhere; 0 if there is none.")
	descRemoval    = describe("oldest_removal_seconds", "Age of the oldest change that takes something away and is not in force everywhere: a rule, a certificate, mutual TLS; 0 if there is none.")
	descSkew       = describe("proxy_clock_skew_seconds", "Largest absolute difference between a proxy's clock and this daemon's.")
	descLeader     = describe("leader", "Whether this daemon is the leader.")
	descSize       = describe("store_bytes", "Size of the store on disk.")
	descInUse      = describe("store_in_use_bytes", "Size of the store that is in use.")
	descLists      = describe("revocation_lists_overdue", "Revocation lists that should have been signed anew by now. More than 0 for minutes: no leader works, or it can't sign; its log has the reason.")
	descUnreplaced = describe("certificates_unreplaced", "Client certificates that end soon, are in use, and whose successor has not been seen in use. Bring the successors to the clients.")
	descAgentLost  = describe("agent_log_lines_dropped", "Log lines that agents lost since they started, as they last reported.")
	descLogLost    = describe("log_lines_dropped_total", "Log lines lost because the reader is too slow or gone, or the disk is full.")
	descQuota      = describe("store_quota_bytes", "Size at which the store stops accepting writes; 0 if unknown.")
	descPublic     = describe("enhanced_certificates", "Enhanced certificates by status.", "status")
	descLeft       = describe("enhanced_certificate_min_left_seconds", "Time until the first enhanced certificate in a policy expires; absent if there is none.")
	descOverdue    = describe("enhanced_certificates_overdue", "Number of enhanced certificates whose renewal is late.")
	descWaiting    = describe("acme_waiting", "Number of certificates that wait for an order at a public authority.")
	descWait       = describe("acme_oldest_wait_seconds", "Time that the certificate that waits longest for an order has waited; 0 if none does.")
	descAway       = describe("acme_authority_away", "Whether a public authority fails or limits, so that it is asked less and less often.", "ca")
	descOrders     = describe("acme_orders_left", "New orders that the configured limit of a public authority leaves; absent without a limit.", "ca")
	descFree       = describe("store_free_bytes", "Bytes free on the disk of the embedded store; below 192 MiB the daemon accepts nothing new. Absent for an etcd cluster.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pgmtls_control_"+name, help, labels, nil)
}

// Describe sends the descriptions of the series.
func (controlState) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{descUp, descDatabases, descProxies, descBehind, descFailing, descOldest, descRemoval, descSkew, descLists, descUnreplaced, descAgentLost, descLeader, descSize, descInUse, descQuota, descLogLost, descFree,
		descPublic, descLeft, descOverdue, descWaiting, descWait, descAway, descOrders} {
		descs <- desc
	}
}

// collectTime bounds one look at the state.
const collectTime = 5 * time.Second

// Collect reads the state. When the store does not answer, up is 0 and the series that are not known are absent.
func (s controlState) Collect(series chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTime)
	defer cancel()
	tell := func(desc *prometheus.Desc, value float64) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	tell(descLeader, number(s.leading != nil && s.leading()))
	series <- prometheus.MustNewConstMetric(descLogLost, prometheus.CounterValue, float64(s.lost()))
	databases, err := s.registry.Databases(ctx)
	if err == nil {
		s.count(databases, tell)
		var overdue registry.Overdue
		if overdue, err = s.registry.Overdue(ctx, databases); err == nil {
			tell(descLists, float64(overdue.Lists))
			tell(descUnreplaced, float64(overdue.Certificates))
			err = s.countPublic(ctx, databases, series)
		}
	}
	stats, statsErr := s.store.Stats(ctx)
	if statsErr == nil {
		tell(descSize, float64(stats.Size))
		tell(descInUse, float64(stats.InUse))
		tell(descQuota, float64(stats.Quota))
		if stats.Free >= 0 {
			tell(descFree, float64(stats.Free))
		}
	}
	tell(descUp, number(err == nil && statsErr == nil && s.store.Health(ctx) == nil))
}

func (s controlState) count(databases []registry.Database, tell func(*prometheus.Desc, float64)) {
	var proxies, behind, failing int
	var oldest, removal, skew time.Duration
	var lost int64
	now := s.now()
	for _, db := range databases {
		proxies += len(db.Proxies)
		for _, proxy := range db.Proxies {
			if proxy.Acknowledged.InForce < db.Generation {
				behind++
			}
			skew = max(skew, proxy.Acknowledged.Clock.Skew.Abs())
			lost += proxy.Acknowledged.AgentLogLinesDropped
			if db.Generation > 0 && (proxy.Acknowledged.Error != "" || proxy.Acknowledged.Drift != "") {
				failing++
			}
		}
		if since, waits := db.WaitingSince(); waits {
			oldest = max(oldest, now.Sub(since))
		}
		if since, waits := db.RemovingSince(); waits {
			removal = max(removal, now.Sub(since))
		}
	}
	tell(descDatabases, float64(len(databases)))
	tell(descProxies, float64(proxies))
	tell(descBehind, float64(behind))
	tell(descFailing, float64(failing))
	tell(descOldest, oldest.Seconds())
	tell(descRemoval, removal.Seconds())
	tell(descSkew, skew.Seconds())
	tell(descAgentLost, float64(lost))
}

// countPublic tells of the public certificates and their authorities. Without an acme block and without a public
// certificate there is nothing to tell.
func (s controlState) countPublic(ctx context.Context, databases []registry.Database, series chan<- prometheus.Metric) error {
	tell := func(desc *prometheus.Desc, value float64, labels ...string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	now := s.now()
	statuses := map[registry.Status]int{}
	var first time.Time
	for _, db := range databases {
		e := db.Enhanced
		if e == nil {
			continue
		}
		statuses[e.Status]++
		if e.Leaf != nil && (first.IsZero() || e.Leaf.NotAfter.Before(first)) {
			first = e.Leaf.NotAfter
		}
	}
	public, err := s.registry.PublicStatus(ctx)
	if err != nil || len(public.Authorities) == 0 && len(statuses) == 0 {
		return err
	}
	for _, status := range []registry.Status{registry.Provisioning, registry.Enabled, registry.Deprovisioning} {
		tell(descPublic, float64(statuses[status]), string(status))
	}
	if !first.IsZero() {
		tell(descLeft, first.Sub(now).Seconds())
	}
	tell(descOverdue, float64(public.Overdue))
	tell(descWaiting, float64(public.Waiting.Count))
	waited := 0.0
	if public.Waiting.Count > 0 {
		waited = now.Sub(public.Waiting.Since).Seconds()
	}
	tell(descWait, waited)
	for _, a := range public.Authorities {
		tell(descAway, number(!a.AwaySince.IsZero()), a.Name)
		if a.OrdersLeft >= 0 {
			tell(descOrders, float64(a.OrdersLeft), a.Name)
		}
	}
	return nil
}

// ACMECounts count what becomes of orders at public authorities. Their labels are the names of authorities in pgmtls.yaml and
// a closed set of results.
type ACMECounts struct {
	orders  *prometheus.CounterVec
	seconds prometheus.Histogram
}

// NewACMECounts makes the series of a registry.
func NewACMECounts(registry *prometheus.Registry) *ACMECounts {
	c := &ACMECounts{
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgmtls_acme_orders_total", Help: "Orders at public authorities by what became of them: begun, issued, renewed or failed, and why."}, []string{"ca", "result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pgmtls_acme_order_seconds", Help: "Time from the beginning of an order to its certificate.",
			Buckets: []float64{.5, 1, 2, 5, 10, 20, 60, 120, 300, 900, 3600}}),
	}
	registry.MustRegister(c.orders, c.seconds)
	return c
}

// Count counts an event.
func (c *ACMECounts) Count(e acme.Event) {
	result := "begun"
	switch e.Kind {
	case acme.EventIssued:
		result = "issued"
	case acme.EventRenewed:
		result = "renewed"
	case acme.EventFailed:
		result = string(e.Problem.Reason)
	}
	c.orders.WithLabelValues(e.CA, result).Inc()
	if e.Took > 0 {
		c.seconds.Observe(e.Took.Seconds())
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
