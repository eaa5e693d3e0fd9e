package registry

import (
	"slices"
	"testing"

	"pgmtls-proxy/internal/control/problem"
)

func TestMetricsAddressOfAProxyIsOneThatPrometheusCanReach(t *testing.T) {
	w := newWorld(t)
	w.database("orders")
	for _, address := range []string{"db1.example.com:9815", "192.0.2.1:1", "[2001:db8::1]:65535", ""} {
		w.done(w.ChangeProxy(w.ctx, admin, "orders", "edge", address))
		if got := w.is("orders").Proxies[0].Metrics; got != address {
			t.Errorf("%q was set, and it is %q", address, got)
		}
	}
	for _, address := range []string{"db1.example.com", ":9815", "db1.example.com:0", "db1.example.com:65536", "db1.example.com:port", "http://db1.example.com:9815", "2001:db8::1:9815", "a b:9815"} {
		_, err := w.ChangeProxy(w.ctx, admin, "orders", "edge", address)
		refused(t, err, problem.InvalidParams, "use the form host:port")
		_, err = w.AddProxy(w.ctx, admin, "orders", NewProxy{Name: "other", Metrics: address})
		refused(t, err, problem.InvalidParams, "use the form host:port")
	}
	_, err := w.ChangeProxy(w.ctx, admin, "orders", "nobody", "db1.example.com:9815")
	refused(t, err, problem.NotFound, "has no proxy")
	if db := w.is("orders"); db.Proxies[0].Metrics != "" || len(db.Proxies) != 1 {
		t.Errorf("a refused address changed something: %+v", db.Proxies)
	}
}

func TestSameMetricsAddressIsNoChange(t *testing.T) {
	w := newWorld(t)
	w.database("orders")
	w.done(w.ChangeProxy(w.ctx, admin, "orders", "edge", "db1.example.com:9815"))
	before := len(w.actions())
	w.done(w.ChangeProxy(w.ctx, admin, "orders", "edge", "db1.example.com:9815"))
	if actions := w.actions(); len(actions) != before || !slices.Contains(actions, "proxy.change") {
		t.Errorf("the audit trail has %v", actions)
	}
}
