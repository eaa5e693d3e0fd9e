package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/acmetest"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

// newEnhancedPlane is a control plane with a real public authority, whose leader is at work.
func newEnhancedPlane(t *testing.T) (*plane, *acmetest.Faults) {
	t.Helper()
	dns := acmetest.StartDNS(t, "example.test")
	faults := acmetest.StartFaults(t, acmetest.StartCA(t, acmetest.Options{DNS: dns.Address, CAAIdentities: []string{"pebble.test"}}))
	key, err := acme.ParseTSIGKey(fmt.Appendf(nil, `key "%s" { algorithm hmac-sha256; secret "%s"; };`, strings.TrimSuffix(dns.KeyName, "."), dns.KeySecret))
	if err != nil {
		t.Fatal(err)
	}
	var manager *acme.Manager
	var p *plane
	series := prometheus.NewRegistry()
	counts := NewACMECounts(series)
	p = newPlaneOf(t, func(o *Options) { o.Metrics = series }, func(o *registry.Options) {
		if manager, err = acme.New(acme.Options{Docs: o.Docs, CAs: []acme.CA{{Name: "pebble", Directory: faults.Directory}},
			Solver:   &acme.RFC2136{Server: dns.Address, Zone: dns.Zone, Key: key},
			Resolver: acme.Resolver{Servers: []string{dns.Address}}, Check: []string{dns.Address}, Transport: faults.Client(), Log: o.Log, Count: counts.Count,
			Record: func(tx *store.Tx, e acme.Event) error { return p.registry.RecordPublic(tx, e) }}); err != nil {
			t.Fatal(err)
		}
		o.Public = registry.Public{Manager: manager, Zone: "example.test", Names: config.ACMENamesOpaque}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var leading sync.WaitGroup
	leading.Go(func() { _ = manager.Run(ctx) }) // its error is that of ctx
	leading.Go(func() { _ = p.registry.FollowPublic(ctx) })
	t.Cleanup(func() { cancel(); leading.Wait() })
	return p, faults
}

// reads decodes a good answer.
func reads[T any](t *testing.T, got answer, status int) (value T) {
	t.Helper()
	if got.status != status {
		t.Fatalf("status %d, want %d: %s", got.status, status, got.body)
	}
	if err := json.Unmarshal(got.body, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// lifeOfEnhanced is the life of an enhanced certificate, by Heroku's paths and ours, at a control plane with an authority.
func lifeOfEnhanced(t *testing.T) {
	p, faults := newEnhancedPlane(t)
	for _, path := range []string{"/client/v11/enhanced_certificates/none/status", "/v1/databases/none/enhanced-certificate", "/v1/databases/none/enhanced-certificate/records"} {
		p.refused(404, api.NotFound, ask{method: "GET", path: path, token: p.admin})
	}
	for _, path := range []string{"/client/v11/enhanced_certificates/none/enable", "/client/v11/enhanced_certificates/none/disable", "/v1/databases/none/enhanced-certificate"} {
		p.refused(404, api.NotFound, ask{method: "PUT", path: path, token: p.admin})
	}
	p.refused(404, api.NotFound, ask{method: "DELETE", path: "/v1/databases/none/enhanced-certificate", token: p.admin})
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/acme"})
	db := p.operational("orders")
	heroku := func(method, action string) answer {
		return p.ask(ask{method: method, path: "/client/v11/enhanced_certificates/orders/" + action, token: p.admin})
	}
	status := func() api.EnhancedCertificate {
		return reads[api.EnhancedCertificate](t, heroku("GET", "status"), http.StatusOK)
	}
	if got := string(heroku("GET", "status").body); strings.TrimSpace(got) != `{"status":"Disabled"}` {
		t.Errorf("before: %s", got)
	}
	for range 2 {
		if got := heroku("PUT", "enable"); got.status != http.StatusOK || len(got.body) != 0 {
			t.Errorf("enable: %d %q", got.status, got.body)
		}
	}
	if got := p.ask(ask{method: "PUT", path: "/client/v11/enhanced_certificates/orders/enable", token: p.admin, body: "{}"}); got.status != http.StatusOK {
		t.Errorf("enable with a body: %d %s", got.status, got.body)
	}
	eventually.OK(t, time.Minute, func() error {
		if is := status(); is.Reason != "delivering" || is.Ends.IsZero() { // in the policy, and not only issued
			return fmt.Errorf("%+v", is)
		}
		return nil
	})
	if is := status(); is.Status != api.Provisioning || is.Host == "" || is.URL != "" || is.Issuer == "" || is.Ends.IsZero() {
		t.Errorf("on its way to the proxies: %+v", is)
	}
	connection := func(query string) api.Connection {
		return reads[api.Connection](t, p.ask(ask{method: "GET", path: "/v1/databases/orders/url" + query, token: p.reader}), http.StatusOK)
	}
	private := connection("").URL
	p.acknowledge(db.ID)
	is := status()
	public := "postgres://" + is.Host + ":5432/?sslmode=verify-full"
	if is.Status != api.EnhancedEnabled || is.Reason != "" || is.URL != public+"&sslrootcert=/etc/ssl/certs/ca-certificates.crt" || is.NextAttempt.IsZero() {
		t.Errorf("enabled: %+v", is)
	}
	for query, want := range map[string]string{"": is.URL, "?roots=bundle": is.URL, "?roots=system": public + "&sslrootcert=system", "?roots=none": public,
		"?roots=/etc/pki/tls/certs/ca-bundle.crt": public + "&sslrootcert=/etc/pki/tls/certs/ca-bundle.crt",
		"?sslmode=require":                        strings.Replace(public, "verify-full", "require", 1)} {
		got := connection(query)
		if got.URL != want || !got.Public || !got.ClientCertificate {
			t.Errorf("url%s: %+v, want %s", query, got, want)
		}
		if query == "" && got.PreviousURL != private {
			t.Errorf("previous: %s, want %s", got.PreviousURL, private)
		}
	}
	for _, bad := range []string{"bundel", "relative.pem", "/a%0Ab"} {
		if got := p.ask(ask{method: "GET", path: "/v1/databases/orders/url?roots=" + bad, token: p.reader}); got.status != http.StatusUnprocessableEntity {
			t.Errorf("roots=%s: %d %s", bad, got.status, got.body)
		}
	}
	if ours := reads[api.EnhancedCertificate](t, p.ask(ask{method: "GET", path: "/v1/databases/orders/enhanced-certificate", token: p.reader}), http.StatusOK); ours != is {
		t.Errorf("our path says %+v, Heroku's %+v", ours, is)
	}
	records := reads[[]api.DNSRecord](t, p.ask(ask{method: "GET", path: "/v1/databases/orders/enhanced-certificate/records", token: p.reader}), http.StatusOK)
	if len(records) != 2 || !records[0].Required || records[0].Found || records[1].Type != "CAA" || !strings.Contains(records[1].Value, "accounturi=") {
		t.Errorf("records: %+v", records)
	}
	authorities := reads[api.ACME](t, p.ask(ask{method: "GET", path: "/v1/acme", token: p.reader}), http.StatusOK)
	if len(authorities.Authorities) != 1 || authorities.Authorities[0].Account == "" || authorities.Zone != "example.test" || authorities.Waiting != 0 {
		t.Errorf("authorities: %+v", authorities)
	}
	rolled := reads[api.ACMEAuthority](t, p.ask(ask{method: "POST", path: "/v1/acme/pebble/rollover", token: p.admin}), http.StatusOK)
	if rolled.Account != authorities.Authorities[0].Account || faults.Requests(acmetest.KeyChangePath) != 1 {
		t.Errorf("rolled over: %+v", rolled)
	}
	if got := p.ask(ask{method: "POST", path: "/v1/acme/nobody/rollover", token: p.admin}); got.status != http.StatusNotFound {
		t.Errorf("no such authority: %d %s", got.status, got.body)
	}

	before := status().Serial
	if got := p.ask(ask{method: "POST", path: "/v1/databases/orders/enhanced-certificate/renew", token: p.admin, body: api.Renewal{Reason: "whim"}}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a reason that there is not: %d %s", got.status, got.body)
	}
	renewing := reads[api.EnhancedCertificate](t, p.ask(ask{method: "POST", path: "/v1/databases/orders/enhanced-certificate/renew", token: p.admin}), http.StatusAccepted)
	if renewing.Status != api.EnhancedEnabled {
		t.Errorf("a renewal took it away: %+v", renewing)
	}
	eventually.True(t, time.Minute, "the certificate is renewed", func() bool { return status().Serial != before })

	metrics := string(p.ask(ask{method: "GET", path: "/metrics", token: p.reader}).body)
	for _, want := range []string{`pgmtls_control_enhanced_certificates{status="Enabled"} 1`, `pgmtls_control_enhanced_certificates{status="Provisioning"} 0`,
		"pgmtls_control_enhanced_certificate_min_left_seconds ", "pgmtls_control_enhanced_certificates_overdue 0", "pgmtls_control_acme_waiting 0",
		"pgmtls_control_acme_oldest_wait_seconds 0", `pgmtls_control_acme_authority_away{ca="pebble"} 0`,
		`pgmtls_acme_orders_total{ca="pebble",result="begun"} 2`, `pgmtls_acme_orders_total{ca="pebble",result="issued"} 1`,
		`pgmtls_acme_orders_total{ca="pebble",result="renewed"} 1`, "pgmtls_acme_order_seconds_count 2"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}

	// One request that fails leaves the certificate enabled, and says what it waits for.
	faults.Fail(acmetest.NewOrderPath, -1, acmetest.Problem(http.StatusTooManyRequests, "rateLimited", "too many certificates", "Retry-After", "7200"))
	p.ask(ask{method: "POST", path: "/v1/databases/orders/enhanced-certificate/renew", token: p.admin})
	eventually.OK(t, time.Minute, func() error {
		if is := status(); is.Status != api.EnhancedEnabled || is.Reason != "rate_limited" || !is.NextAttempt.After(time.Now().Add(30*time.Second)) || !strings.Contains(is.Detail, "too many certificates") {
			return fmt.Errorf("%+v", is)
		}
		return nil
	})
	if got := heroku("PUT", "disable"); got.status != http.StatusOK || len(got.body) != 0 {
		t.Errorf("disable: %d %q", got.status, got.body)
	}
	if is := status(); is.Status != api.Deprovisioning || is.Reason != "withdrawing" || !strings.Contains(is.Detail, "edge") {
		t.Errorf("disabled: %+v", is)
	}
	if got := connection(""); got.URL != private || got.Public {
		t.Errorf("disabled: %+v", got)
	}
	p.acknowledge(db.ID)
	if got := string(heroku("PUT", "disable").body); got != "" {
		t.Errorf("disable again: %s", got)
	}
	if is := reads[api.EnhancedCertificate](t, p.ask(ask{method: "DELETE", path: "/v1/databases/orders/enhanced-certificate", token: p.admin}), http.StatusAccepted); is.Status != api.EnhancedDisabled {
		t.Errorf("gone: %+v", is)
	}
	pair := testpki.MustCA(t, "somebody's CA").MustIssue(t, testpki.Server("db.example.org"))
	upload := func(body api.UploadedCertificate) answer {
		return p.ask(ask{method: "PUT", path: "/v1/databases/orders/enhanced-certificate/upload", token: p.admin, body: body})
	}
	if got := upload(api.UploadedCertificate{Certificate: string(pair.CertPEM), PrivateKey: "x"}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("upload without a key: %d %s", got.status, got.body)
	}
	if is := reads[api.EnhancedCertificate](t, upload(api.UploadedCertificate{Certificate: string(pair.CertPEM), PrivateKey: string(pair.KeyPEM)}), http.StatusOK); !is.Uploaded || is.Host != "db.example.org" || is.Status != api.Provisioning {
		t.Errorf("uploaded: %+v", is)
	}
	p.acknowledge(db.ID)
	if is := status(); is.Status != api.EnhancedEnabled || !strings.Contains(is.URL, "//db.example.org:") {
		t.Errorf("uploaded: %+v", is)
	}
	if is := reads[api.EnhancedCertificate](t, p.ask(ask{method: "PUT", path: "/v1/databases/orders/enhanced-certificate", token: p.admin}), http.StatusOK); !is.Uploaded {
		t.Errorf("enabling replaced it: %+v", is)
	}
	if strings.Contains(p.log.String(), "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
}

func TestDatabaseWithoutMutualTLSSaysThatRulesAloneDecide(t *testing.T) {
	p, _ := newEnhancedPlane(t)
	db := p.database("plain")
	if db.ClientAuth != "required" {
		t.Errorf("%+v", db)
	}
	is := reads[api.EnhancedCertificate](t, p.ask(ask{method: "PUT", path: "/v1/databases/plain/enhanced-certificate", token: p.admin}), http.StatusOK)
	if is.Status != api.Provisioning {
		t.Errorf("%+v", is)
	}
	db = reads[api.Database](t, p.ask(ask{method: "GET", path: "/v1/databases/plain", token: p.admin}), http.StatusOK)
	if db.ClientAuth != "off" || db.Enhanced != api.Provisioning {
		t.Errorf("%+v", db)
	}
	if got := reads[api.Connection](t, p.ask(ask{method: "GET", path: "/v1/databases/plain/url", token: p.admin}), http.StatusOK); got.ClientCertificate || got.Public {
		t.Errorf("%+v", got)
	}
	if got := p.ask(ask{method: "POST", path: "/postgres/v0/databases/plain/tls-endpoint/ip-rules", token: p.admin, body: api.NewRule{CIDR: "192.0.2.0/24"}}); got.status != http.StatusCreated {
		t.Errorf("a rule: %d %s", got.status, got.body)
	}
}

func TestWithoutAnACMEBlockEnableSaysWhatToSet(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	for _, a := range []ask{
		{method: "PUT", path: "/client/v11/enhanced_certificates/orders/enable"},
		{method: "PUT", path: "/v1/databases/orders/enhanced-certificate"},
		{method: "POST", path: "/v1/databases/orders/enhanced-certificate/renew"},
		{method: "GET", path: "/v1/databases/orders/enhanced-certificate/records"},
		{method: "POST", path: "/v1/acme/letsencrypt/rollover"},
	} {
		a.token = p.admin
		if got := p.ask(a); got.status != http.StatusConflict || !strings.Contains(string(got.body), "add an acme block to pgmtls.yaml") {
			t.Errorf("%s %s: %d %s", a.method, a.path, got.status, got.body)
		}
	}
	if got := string(p.ask(ask{method: "GET", path: "/v1/databases/orders/enhanced-certificate", token: p.admin}).body); strings.TrimSpace(got) != `{"status":"Disabled"}` {
		t.Errorf("status: %s", got)
	}
	if got := p.ask(ask{method: "GET", path: "/v1/databases/orders/url?roots=bundle", token: p.admin}); got.status != http.StatusConflict {
		t.Errorf("roots of a private name: %d %s", got.status, got.body)
	}
	if got := reads[api.ACME](t, p.ask(ask{method: "GET", path: "/v1/acme", token: p.admin}), http.StatusOK); len(got.Authorities) != 0 {
		t.Errorf("authorities: %+v", got)
	}
}
