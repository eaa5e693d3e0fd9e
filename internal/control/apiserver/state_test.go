package apiserver

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/registry"
)

func TestWaitingNamesEachChangeAndTheProxiesThatLack(t *testing.T) {
	said := func(applied, inForce int64) registry.Acknowledgement {
		return registry.Acknowledgement{Applied: applied, InForce: inForce}
	}
	at := func(minutes int) time.Time { return time.Unix(0, 0).Add(time.Duration(minutes) * time.Minute) }
	db := registry.Database{Name: "orders", Generation: 9,
		Proxies: []registry.Proxy{{Name: "a", Acknowledged: said(9, 9)}, {Name: "b", Acknowledged: said(9, 7)}, {Name: "c"}},
		MTLS:    &registry.MTLS{Status: registry.Operational, Generation: 2, UpdatedAt: at(0)},
		Rules: []registry.Rule{
			{ID: "r1", CIDR: "192.0.2.0/24", Status: registry.Authorized, Generation: 3, UpdatedAt: at(1)},
			{ID: "r2", CIDR: "198.51.100.0/24", Status: registry.Authorizing, Generation: 8, UpdatedAt: at(1)},
			{ID: "r3", CIDR: "203.0.113.0/24", Status: registry.Deauthorizing, Generation: 9, UpdatedAt: at(2)},
		},
		Certificates: []registry.Certificate{
			{ID: "c1", Name: "one", Status: registry.Ready, Generation: 2, DisableAt: at(99)},
			{ID: "c2", Name: "two", Status: registry.Disabling, Generation: 7, UpdatedAt: at(4)},
			{ID: "c3", Name: "three", Status: registry.Disabled},
		}}
	want := []api.Waiting{
		{Kind: "ip_rule", ID: "r2", Name: "198.51.100.0/24", Status: "Authorizing", Generation: 8, Until: "applied", Proxies: []string{"c"}},
		{Kind: "ip_rule", ID: "r3", Name: "203.0.113.0/24", Status: "Deauthorizing", Generation: 9, Until: "in_force", Proxies: []string{"b", "c"}},
		{Kind: "certificate", ID: "c2", Name: "two", Status: "disabling", Generation: 7, Until: "in_force", Proxies: []string{"c"}},
	}
	got := waitingFor(db)
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if !slices.Equal(got[i].Proxies, want[i].Proxies) {
			t.Errorf("%s waits for %v, want %v", got[i].ID, got[i].Proxies, want[i].Proxies)
		}
		got[i].Proxies, want[i].Proxies = nil, nil
		if got[i].ID != want[i].ID || got[i].Until != want[i].Until || got[i].Status != want[i].Status || got[i].Generation != want[i].Generation || got[i].Kind != want[i].Kind || got[i].Name != want[i].Name {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if since, waits := db.WaitingSince(); !waits || !since.Equal(at(1)) {
		t.Errorf("it waits %t since %s", waits, since)
	}
	if since, waits := db.RemovingSince(); !waits || !since.Equal(at(2)) {
		t.Errorf("it takes something away %t since %s", waits, since)
	}
	db.Proxies = nil
	if _, waits := db.WaitingSince(); waits {
		t.Error("a database without proxies waits for somebody")
	}
}

// Whatever is asked, the labels are of the table.
func TestMetricsHaveNoLabelsOfStrangers(t *testing.T) {
	p := newPlane(t, nil)
	for _, path := range []string{"/canary", "/v1/databases/canary", "/v1/canary/../x", "/postgres/v0/databases/canary/tls-endpoint"} {
		for _, method := range []string{"GET", "CANARY", "PUT"} {
			p.ask(ask{method: method, path: path, token: p.admin})
		}
	}
	text := string(p.must(200, ask{method: "GET", path: "/metrics", token: p.reader}, nil).body)
	if strings.Contains(strings.ToLower(text), "canary") {
		t.Error("a stranger's text is a label")
	}
	for _, want := range []string{`method="other"`, `route="none"`, `route="/v1/databases/{database}"`, "pgmtls_control_leader 0", "pgmtls_control_store_bytes "} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	for _, name := range regexp.MustCompile(`(?m)^([a-z_]+)`).FindAllString(text, -1) {
		if !strings.HasPrefix(name, "pgmtls_api_") && !strings.HasPrefix(name, "pgmtls_control_") {
			t.Errorf("there is a series %s", name)
		}
	}
}
