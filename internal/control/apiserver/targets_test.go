package apiserver

import (
	"reflect"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

// targets goes through the addresses of the database orders, which has the proxies edge, with an agent, and near.
func (p *plane) targets(t *testing.T) {
	found := func(token string) map[string][]string {
		var list []api.Target
		p.must(200, ask{method: "GET", path: "/v1/targets", token: token}, &list)
		addresses := map[string][]string{}
		for _, target := range list {
			if target.Labels["database"] != "orders" || target.Labels["space"] != "acme" || len(target.Labels) != 3 {
				t.Errorf("labels %v", target.Labels)
			}
			addresses[target.Labels["proxy"]] = target.Targets
		}
		return addresses
	}
	if got, want := found(p.reader), (map[string][]string{"edge": {}, "near": {"127.0.0.1:9815"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("targets %v, want %v", got, want)
	}
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/targets"})

	const path = "/v1/databases/orders/proxies/"
	var db api.Database
	for proxy, address := range map[string]string{"edge": "edge-1.example.com:9815", "near": "[2001:db8::7]:9815"} {
		p.must(200, ask{method: "PATCH", path: path + proxy, token: p.admin, body: `{"metrics": "` + address + `"}`}, &db)
	}
	if db.Proxies[0].Metrics != "edge-1.example.com:9815" || db.Proxies[1].Metrics != "[2001:db8::7]:9815" {
		t.Errorf("got %+v", db.Proxies)
	}
	if got, want := found(p.reader), (map[string][]string{"edge": {"edge-1.example.com:9815"}, "near": {"[2001:db8::7]:9815"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("targets %v, want %v", got, want)
	}
	p.must(200, ask{method: "PATCH", path: path + "near", token: p.admin, body: `{"metrics": ""}`}, &db)
	if got := found(p.reader)["near"]; !reflect.DeepEqual(got, []string{"127.0.0.1:9815"}) {
		t.Errorf("without an address of its own, it is found at %v", got)
	}
	for _, body := range []string{`{"metrics": "edge-1"}`, `{"metrics": "edge-1:0"}`, `{"metrics": "edge-1:99999"}`, `{"metrics": ":9815"}`,
		`{"metrics": "http://edge-1:9815"}`, `{"metrics": "edge 1:9815"}`, `{"metrics": "unix:/run/a.sock"}`, `{"metrics": "edge-1:http"}`} {
		p.refused(422, api.InvalidParams, ask{method: "PATCH", path: path + "edge", token: p.admin, body: body})
		p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/databases/orders/proxies", token: p.admin, body: `{"name": "third", ` + body[1:]})
	}
	p.refused(422, api.InvalidParams, ask{method: "PATCH", path: path + "edge", token: p.admin, body: `{}`})
	p.refused(404, api.NotFound, ask{method: "PATCH", path: path + "none", token: p.admin, body: `{"metrics": "a:1"}`})
}

// A token of one database finds its proxies, and no others; one that listens on a socket has no address.
func TestTargetsAreThoseOfTheCaller(t *testing.T) {
	p := newPlane(t, nil)
	p.database("billing")
	orders := p.database("orders")
	body := `{"name": "near", "policy_dir": "` + p.dir("orders") + `", "admin": "unix:/run/pgmtls-proxy/admin.sock"}`
	p.must(201, ask{method: "POST", path: "/v1/databases/orders/proxies", token: p.admin, body: body}, nil)
	for token, want := range map[string]int{p.token(access.NewToken{Name: "one", Kind: access.Database, Database: orders.ID}): 2, p.reader: 3} {
		var list []api.Target
		p.must(200, ask{method: "GET", path: "/v1/targets", token: token}, &list)
		if len(list) != want {
			t.Errorf("%d targets, want %d: %v", len(list), want, list)
		}
		for _, target := range list {
			if len(target.Targets) != 0 {
				t.Errorf("a proxy without an address is found at %v", target)
			}
		}
	}
}

// series gives the values of the control plane's own series.
func (p *plane) series(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(string(p.must(200, ask{method: "GET", path: "/metrics", token: p.reader}, nil).body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "pgmtls_control_") {
			values[strings.TrimPrefix(name, "pgmtls_control_")] = value
		}
	}
	return values
}

// wants compares some of the series.
func (p *plane) wants(t *testing.T, what string, want map[string]string) {
	t.Helper()
	got := p.series(t)
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %s is %q, want %s", what, name, got[name], value)
		}
	}
}

// A new database, whose proxies are not there yet, is nobody's fault.
func TestProxiesOfNewDatabasesDoNotFail(t *testing.T) {
	p := newPlane(t, nil)
	db := p.database("orders")
	report := func(report api.Report) {
		t.Helper()
		if err := p.registry.Acknowledge(t.Context(), db.ID, "edge", report); err != nil {
			t.Fatal(err)
		}
	}
	report(api.Report{Error: "nobody answers at 127.0.0.1:9815"})
	p.wants(t, "new", map[string]string{"proxies": "1", "proxies_failing": "0", "proxies_behind": "0", "revocation_lists_overdue": "0", "certificates_unreplaced": "0"})
	p.must(201, ask{method: "POST", path: endpoint("orders"), token: p.admin}, nil)
	p.wants(t, "with a policy", map[string]string{"proxies_failing": "1", "proxies_behind": "1"})
	p.acknowledge("orders")
	p.wants(t, "in force", map[string]string{"proxies_failing": "0", "proxies_behind": "0", "agent_log_lines_dropped": "0"})
	report(api.Report{Applied: 1, InForce: 1, LogLinesDropped: 7})
	p.wants(t, "lines lost", map[string]string{"agent_log_lines_dropped": "7"})
}
