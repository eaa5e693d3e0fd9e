package apiserver

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/authority"
)

// The whole life of a database over HTTP. Each answer is held against the OpenAPI file, and in the end every route
// must have answered well and badly.
func TestEveryAnswerOfEveryRouteIsAsDescribed(t *testing.T) {
	p := newPlane(t, nil)
	t.Run("databases", p.lifeOfDatabases)
	t.Run("mutual TLS", p.lifeOfEndpoint)
	t.Run("rules", p.lifeOfRules)
	t.Run("certificates", p.lifeOfCertificates)
	t.Run("authorities", p.lifeOfAuthorities)
	t.Run("tokens", p.lifeOfTokens)
	t.Run("agents", p.lifeOfAgents)
	t.Run("trail", p.lifeOfTrail)
	t.Run("daemon", p.lifeOfDaemon)
	t.Run("enhanced certificates", lifeOfEnhanced)
	if !t.Failed() {
		wantSeen(t)
	}
}

func (p *plane) lifeOfDatabases(t *testing.T) {
	orders := p.database("orders")
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/databases", token: p.admin, body: api.NewDatabase{Name: "orders", Hosts: []string{"x"}}})
	p.refused(400, api.BadRequest, ask{method: "POST", path: "/v1/databases", token: p.admin, body: `{"name": "x", "hosts": ["x"], "Name": "y"}`})
	p.refused(400, api.BadRequest, ask{method: "POST", path: "/v1/databases", token: p.admin, body: "{\"name\": \"x\", \"hosts\": [\"x\"], \"backend_note\": \"B\xfcro\"}"})
	p.refused(400, api.BadRequest, ask{method: "POST", path: "/v1/databases", token: p.admin, body: `{"name": "x", "hosts": ["x"], "colour": "red"}`})
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/databases"})
	var list []api.Database
	p.must(200, ask{method: "GET", path: "/v1/databases", token: p.admin}, &list)
	if len(list) != 1 || list[0].ID != orders.ID {
		t.Errorf("got %+v", list)
	}
	var again api.Database
	p.must(200, ask{method: "GET", path: "/v1/databases/" + orders.ID, token: p.reader}, &again)
	p.refused(404, api.NotFound, ask{method: "GET", path: "/v1/databases/none", token: p.admin})
	p.must(201, ask{method: "POST", path: "/v1/databases/orders/proxies", token: p.admin, body: local("near", p.dir("near"))}, &again)
	if len(again.Proxies) != 2 || again.Proxies[1].Node != "here" {
		t.Errorf("got %+v", again.Proxies)
	}
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/databases/orders/proxies", token: p.admin, body: local("out", "/etc")})
	p.targets(t)
	p.must(200, ask{method: "DELETE", path: "/v1/databases/orders/proxies/near", token: p.admin}, &again)
	p.refused(404, api.NotFound, ask{method: "DELETE", path: "/v1/databases/orders/proxies/near", token: p.admin})
	var connection api.Connection
	p.must(200, ask{method: "GET", path: "/v1/databases/orders/url?user=app&dbname=shop", token: p.reader}, &connection)
	if connection.URL != "postgres://app@orders.example.com:5432/shop?sslmode=verify-full" {
		t.Errorf("got %+v", connection)
	}
	p.refused(422, api.InvalidParams, ask{method: "GET", path: "/v1/databases/orders/url?sslmode=disable", token: p.reader})
	p.database("brief")
	p.must(204, ask{method: "DELETE", path: "/v1/databases/brief", token: p.admin}, nil)
	p.refused(404, api.NotFound, ask{method: "DELETE", path: "/v1/databases/brief", token: p.admin})
}

func (p *plane) lifeOfEndpoint(t *testing.T) {
	path := endpoint("orders")
	p.refused(404, api.NotFound, ask{method: "GET", path: path, token: p.admin})
	p.refused(404, api.NotFound, ask{method: "DELETE", path: path, token: p.admin})
	var got api.TLSEndpoint
	p.must(201, ask{method: "POST", path: path, token: p.admin}, &got)
	if got.App != "acme" || got.Addon != "orders" || got.Status != api.Provisioning || got.EnabledBy != "admin" || !strings.Contains(got.CertificateAuthorityChain, "BEGIN CERTIFICATE") {
		t.Errorf("got %+v", got)
	}
	p.refused(409, api.Conflict, ask{method: "POST", path: path, token: p.admin, body: `{"nobody": "knows"}`})
	var acks api.Acknowledgements
	p.must(200, ask{method: "GET", path: "/v1/databases/orders/acknowledgements", token: p.reader}, &acks)
	if acks.InForce || len(acks.Waiting) == 0 || acks.Waiting[0].Kind != api.WaitingTLSEndpoint || acks.Waiting[0].Proxies[0] != "edge" {
		t.Errorf("got %+v", acks)
	}
	p.refused(404, api.NotFound, ask{method: "GET", path: "/v1/databases/none/acknowledgements", token: p.reader})
	p.acknowledge("orders")
	p.must(200, ask{method: "GET", path: path, token: p.reader}, &got)
	if got.Status != api.Operational {
		t.Errorf("got %+v", got)
	}
	p.must(200, ask{method: "GET", path: "/v1/databases/orders/acknowledgements", token: p.reader}, &acks)
	if !acks.InForce || len(acks.Waiting) != 0 {
		t.Errorf("got %+v", acks)
	}
	p.refused(409, api.Conflict, ask{method: "DELETE", path: "/v1/databases/orders", token: p.admin})
	p.must(202, ask{method: "DELETE", path: path, token: p.admin}, &got)
	if got.Status != api.Deprovisioning {
		t.Errorf("got %+v", got)
	}
	p.must(201, ask{method: "POST", path: path, token: p.admin, body: "{}"}, &got) // at once
	if got.Status != api.Provisioning {
		t.Errorf("got %+v", got)
	}
	p.acknowledge("orders")
}

func (p *plane) lifeOfRules(t *testing.T) {
	path := endpoint("orders") + "/ip-rules"
	var rule api.Rule
	p.must(201, ask{method: "POST", path: path, token: p.admin, body: `{"cidr": "198.51.100.7/32", "description": "office", "of_heroku": 1}`}, &rule)
	if rule.Status != api.Authorizing || rule.CIDR != "198.51.100.7/32" || rule.Description != "office" {
		t.Errorf("got %+v", rule)
	}
	for _, body := range []string{`{"cidr": "198.51.100.7/24"}`, `{"cidr": "198.51.100.7/32"}`, `{}`, `{"cidr": "everybody"}`} {
		p.refused(422, api.InvalidParams, ask{method: "POST", path: path, token: p.admin, body: body})
	}
	for _, body := range []string{"", "null", "[]", `"x"`, `{"cidr": 1}`, `{"cidr": "::/0"} {}`, `{"cidr": "::/0"`, `{"cidr": "::/0", "expires_at": "tomorrow"}`} {
		p.refused(400, api.BadRequest, ask{method: "POST", path: path, token: p.admin, body: body})
	}
	p.acknowledge("orders")
	p.must(200, ask{method: "GET", path: path + "/" + rule.ID, token: p.reader}, &rule)
	if rule.Status != api.Authorized {
		t.Errorf("got %+v", rule)
	}
	active := func(want ...string) {
		t.Helper()
		var got api.TLSEndpoint
		p.must(200, ask{method: "GET", path: endpoint("orders"), token: p.reader}, &got)
		if !slices.Equal(got.ActiveIPRules, want) {
			t.Errorf("active rules are %q, want %q", got.ActiveIPRules, want)
		}
	}
	active("198.51.100.7/32")
	var second api.Rule
	p.must(201, ask{method: "POST", path: path, token: p.admin, body: api.NewRule{CIDR: "2001:db8::/32", ExpiresAt: time.Now().Add(time.Hour)}}, &second)
	var list []api.Rule
	p.must(200, ask{method: "GET", path: path, token: p.reader}, &list)
	if len(list) != 2 || list[0].ID != rule.ID || list[1].ID != second.ID || list[1].ExpiresAt.IsZero() {
		t.Errorf("got %+v, want the oldest first", list)
	}
	p.refused(404, api.NotFound, ask{method: "GET", path: endpoint("none") + "/ip-rules", token: p.reader})
	p.refused(404, api.NotFound, ask{method: "GET", path: path + "/none", token: p.reader})
	p.refused(422, api.InvalidParams, ask{method: "DELETE", path: path + "/" + rule.ID + "?dry_run=ture", token: p.admin})
	p.must(202, ask{method: "DELETE", path: path + "/" + rule.ID, token: p.admin}, &rule)
	if rule.Status != api.Deauthorizing {
		t.Errorf("got %+v", rule)
	}
	p.must(201, ask{method: "POST", path: path, token: p.admin, body: `{"cidr": "198.51.100.7/32"}`}, nil) // again at once
	active()                                                                                               // nothing is on every proxy, or not for long
	p.acknowledge("orders")
	active("2001:db8::/32", "198.51.100.7/32")
	p.refused(404, api.NotFound, ask{method: "GET", path: path + "/" + rule.ID, token: p.reader})
}

func (p *plane) lifeOfCertificates(t *testing.T) {
	path := endpoint("orders") + "/certificates"
	var list []api.Certificate
	p.must(200, ask{method: "GET", path: path, token: p.reader}, &list)
	if len(list) != 1 || list[0].Status != api.Ready {
		t.Fatalf("got %+v, want the first certificate", list)
	}
	var made, got api.Certificate
	p.must(201, ask{method: "POST", path: path, token: p.admin}, &made) // an empty body
	p.must(200, ask{method: "GET", path: path + "/" + made.ID, token: p.admin}, &got)
	if err := authority.MatchesKey([]byte(got.CertificateWithChain), []byte(got.PrivateKey)); err != nil {
		t.Error(err)
	}
	got = api.Certificate{}
	if body := p.must(200, ask{method: "GET", path: path + "/" + made.ID, token: p.reader}, &got); got.PrivateKey != "" || strings.Contains(string(body.body), "PRIVATE") {
		t.Error("scope read sees a private key")
	}
	var files api.CertificateFiles
	p.must(200, ask{method: "GET", path: path + "/" + made.ID + "/files", token: p.admin}, &files)
	if err := authority.MatchesKey([]byte(files.CertificateWithChain), []byte(files.PrivateKey)); err != nil || files.Root == "" {
		t.Errorf("got %v, and the root %q", err, files.Root)
	}
	p.refused(403, api.Forbidden, ask{method: "GET", path: path + "/" + made.ID + "/files", token: p.reader})
	_, csr := newRequest(t)
	var own api.Certificate
	p.must(201, ask{method: "POST", path: path, token: p.admin, body: api.NewCertificate{Name: "own", CSR: csr}}, &own)
	got = api.Certificate{}
	p.must(200, ask{method: "GET", path: path + "/" + own.ID, token: p.admin}, &got)
	if got.PrivateKey != "" || got.CertificateWithChain == "" {
		t.Errorf("got %+v of a client with its own key", got)
	}
	p.refused(422, api.InvalidParams, ask{method: "POST", path: path, token: p.admin, body: api.NewCertificate{CSR: "nonsense"}})
	p.refused(404, api.NotFound, ask{method: "GET", path: endpoint("none") + "/certificates", token: p.reader})

	p.must(200, ask{method: "DELETE", path: path + "/" + own.ID + "?after=24h", token: p.admin}, &got)
	if got.DisableAt.IsZero() {
		t.Errorf("got %+v", got)
	}
	got = api.Certificate{}
	p.must(200, ask{method: "POST", path: path + "/" + own.ID + "/keep", token: p.admin}, &got)
	if !got.DisableAt.IsZero() {
		t.Errorf("got %+v", got)
	}
	p.refused(422, api.InvalidParams, ask{method: "DELETE", path: path + "/" + own.ID + "?after=soon", token: p.admin})
	p.must(202, ask{method: "DELETE", path: path + "/" + made.ID, token: p.admin}, &got)
	if got.Status != api.Disabling {
		t.Errorf("got %+v", got)
	}
	p.refused(409, api.Conflict, ask{method: "POST", path: path + "/" + made.ID + "/keep", token: p.admin})
	p.acknowledge("orders")
	p.refused(404, api.NotFound, ask{method: "GET", path: path + "/" + made.ID, token: p.admin})
	p.refused(404, api.NotFound, ask{method: "GET", path: path + "/" + made.ID + "/files", token: p.admin})
	p.must(200, ask{method: "GET", path: path, token: p.reader}, &list)
	if len(list) != 3 || list[1].ID != made.ID || list[1].Status != api.Disabled {
		t.Errorf("got %+v, want the disabled one in its place", list)
	}
}

func (p *plane) lifeOfAuthorities(t *testing.T) {
	path := "/v1/spaces/acme/ca"
	var names []string
	p.must(200, ask{method: "GET", path: "/v1/spaces", token: p.reader}, &names)
	if len(names) != 1 || names[0] != "acme" {
		t.Errorf("got %v", names)
	}
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/spaces", token: "none"})
	var list []api.Authority
	p.must(200, ask{method: "GET", path: path, token: p.reader}, &list)
	if len(list) != 1 || list[0].State != api.ActiveCA || len(list[0].Users) == 0 {
		t.Fatalf("got %+v", list)
	}
	first := list[0].ID
	p.refused(404, api.NotFound, ask{method: "GET", path: "/v1/spaces/none/ca", token: p.reader})
	var crl api.CRL
	p.must(200, ask{method: "GET", path: path + "/" + first + "/crl", token: p.reader}, &crl)
	if block, _ := pem.Decode([]byte(crl.CRL)); block == nil || block.Type != "X509 CRL" || crl.Number < 1 || crl.Revoked != list[0].Revoked {
		t.Errorf("got %+v", crl)
	} else if signed, err := x509.ParseRevocationList(block.Bytes); err != nil || !signed.NextUpdate.Equal(crl.NextUpdate) || signed.Number.Int64() != crl.Number {
		t.Errorf("got %+v, %v, and the answer says %+v", signed, err, crl)
	}
	p.refused(404, api.NotFound, ask{method: "GET", path: path + "/none/crl", token: p.reader})
	var next api.Authority
	p.must(201, ask{method: "POST", path: path + "/rotate", token: p.admin}, &next)
	p.refused(404, api.NotFound, ask{method: "POST", path: "/v1/spaces/none/ca/rotate", token: p.admin})
	p.acknowledge("orders")
	p.refused(409, api.Conflict, ask{method: "POST", path: path + "/" + next.ID + "/retire", token: p.admin})
	p.must(200, ask{method: "POST", path: path + "/" + first + "/retire?force=true", token: p.admin}, &next)
	if next.State != api.RetiredCA {
		t.Errorf("got %+v", next)
	}
	p.refused(409, api.Conflict, ask{method: "GET", path: path + "/" + first + "/crl", token: p.reader})
	ca, err := authority.NewCA(authority.Subject{CommonName: "ours"}, time.Now().Add(-time.Hour), time.Now().AddDate(5, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	p.must(201, ask{method: "POST", path: path + "/import", token: p.admin, body: api.ImportCA{Certificate: string(ca.CertificatePEM()), PrivateKey: string(ca.KeyPEM())}}, &next)
	if !next.External || next.State != api.ActiveCA {
		t.Errorf("got %+v", next)
	}
	p.refused(422, api.InvalidParams, ask{method: "POST", path: path + "/import", token: p.admin, body: api.ImportCA{Certificate: "no", PrivateKey: "no"}})
	p.refusesConstrainedCA(t, path, next.ID)
	p.acknowledge("orders")
}

func (p *plane) lifeOfTokens(t *testing.T) {
	var made api.Token
	p.must(201, ask{method: "POST", path: "/v1/tokens", token: p.admin, body: api.NewToken{Name: "ci", Scope: api.ScopeDatabase, Database: "orders", ExpiresAt: time.Now().Add(time.Hour)}}, &made)
	if made.DatabaseName != "orders" || made.CreatedBy != "admin" {
		t.Errorf("got %+v", made)
	}
	p.must(200, ask{method: "GET", path: endpoint("orders"), token: made.Secret}, nil)
	for _, body := range []api.NewToken{{Name: "ci", Scope: "root"}, {Name: "x", Scope: api.ScopeAgent}, {Name: "x", Scope: api.ScopeDatabase, Database: "none"}, {Scope: api.ScopeAll}} {
		p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/tokens", token: p.admin, body: body})
	}
	p.refused(409, api.Conflict, ask{method: "POST", path: "/v1/tokens", token: p.admin, body: api.NewToken{Name: "ci", Scope: api.ScopeAll}})
	var list []api.Token
	got := p.must(200, ask{method: "GET", path: "/v1/tokens", token: p.reader}, &list)
	if len(list) != 3 || strings.Contains(string(got.body), "pgmtls_") {
		t.Errorf("got %s", got.body)
	}
	p.refused(403, api.Forbidden, ask{method: "GET", path: "/v1/tokens", token: made.Secret})
	p.must(204, ask{method: "DELETE", path: "/v1/tokens/" + made.ID, token: p.admin}, nil)
	p.refused(404, api.NotFound, ask{method: "DELETE", path: "/v1/tokens/" + made.ID, token: p.admin})
	p.refused(401, api.Unauthorized, ask{method: "GET", path: endpoint("orders"), token: made.Secret})
}

func (p *plane) lifeOfAgents(t *testing.T) {
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/agents", token: p.admin, body: api.NewEnrolment{Database: "orders", Proxy: "none"}})
	_, csr := newRequest(t)
	p.refused(403, api.Forbidden, ask{method: "POST", path: "/v1/agent/enroll", token: p.admin, body: api.Certify{CSR: csr}})
	edge := p.enrol("orders")
	var list []api.Agent
	p.must(200, ask{method: "GET", path: "/v1/agents", token: p.reader}, &list)
	if len(list) != 1 || list[0].ID != edge.Agent || list[0].DatabaseName != "orders" {
		t.Errorf("got %+v", list)
	}
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/agents"})

	lines := p.open(edge.client, "/v1/agent/stream")
	policy := lines.policy(t)
	p.must(204, ask{method: "POST", path: "/v1/agent/reports", client: edge.client, body: api.Report{Applied: policy.Generation, InForce: policy.Generation}}, nil)
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/agent/reports", client: edge.client, body: api.Report{Applied: -1}})
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/agent/stream"})

	var rules []api.Rule
	p.must(200, ask{method: "GET", path: endpoint("orders") + "/ip-rules", token: p.reader}, &rules)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		question := lines.question(t)
		p.must(204, ask{method: "POST", path: "/v1/agent/answers/" + question.ID, client: edge.client, body: api.Answer{Effect: &api.Effect{OK: true, Ended: 3}}}, nil)
	}()
	var dry api.RuleDryRun
	p.must(200, ask{method: "DELETE", path: endpoint("orders") + "/ip-rules/" + rules[0].ID + "?dry_run=true", token: p.admin}, &dry)
	<-answered
	if dry.Ended != 3 || len(dry.Proxies) != 1 || dry.Proxies[0].Effect == nil {
		t.Errorf("got %+v", dry)
	}
	p.refused(404, api.NotFound, ask{method: "POST", path: "/v1/agent/answers/none", client: edge.client, body: api.Answer{Error: "no"}})

	keyPEM, csr := newRequest(t)
	var renewed api.Certified
	p.must(201, ask{method: "POST", path: "/v1/agent/renew", client: edge.client, body: api.Certify{CSR: csr}}, &renewed)
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/agent/renew", client: edge.client, body: api.Certify{CSR: "no"}})
	fresh := p.client(pair(t, renewed.Certificate, keyPEM))
	p.must(200, ask{method: "GET", path: "/v1/version", client: fresh}, nil)
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/version", client: edge.client})
	p.must(204, ask{method: "DELETE", path: "/v1/agents/" + edge.Agent, token: p.admin}, nil)
	p.refused(404, api.NotFound, ask{method: "DELETE", path: "/v1/agents/" + edge.Agent, token: p.admin})
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/version", client: fresh})
}

func (p *plane) lifeOfTrail(t *testing.T) {
	var page api.Audit
	p.must(200, ask{method: "GET", path: "/v1/audit?limit=3", token: p.reader}, &page)
	if len(page.Records) != 3 || page.Next != page.Records[2].ID {
		t.Errorf("got %+v", page)
	}
	actions := map[string]int{}
	for {
		for _, record := range page.Records {
			actions[record.Action]++
		}
		if page.Next == "" {
			break
		}
		next := page.Next
		page = api.Audit{}
		p.must(200, ask{method: "GET", path: "/v1/audit?limit=3&before=" + next, token: p.reader}, &page)
	}
	for _, want := range []string{"database.create", "token.create", "token.revoke", "agent.invite", "agent.enrol", "agent.renew"} {
		if actions[want] == 0 {
			t.Errorf("the trail does not have %s", want)
		}
	}
	p.refused(422, api.InvalidParams, ask{method: "GET", path: "/v1/audit?limit=0", token: p.reader})
	lines := p.open(p.client(nil), "/v1/events?database=orders", p.reader)
	p.must(201, ask{method: "POST", path: endpoint("orders") + "/ip-rules", token: p.admin, body: `{"cidr": "203.0.113.0/24"}`, header: map[string]string{api.RequestIDHeader: "mine-1"}}, nil)
	var record api.Record
	lines.until(t, func(line string) bool {
		data, ok := strings.CutPrefix(line, "data: ")
		return ok && json.Unmarshal([]byte(data), &record) == nil
	})
	if record.Action != "ip_rule.create" || record.Database != "orders" || record.Actor != "admin" || record.RequestID != "mine-1" || record.Address != "127.0.0.1" {
		t.Errorf("got %+v", record)
	}
	p.refused(422, api.InvalidParams, ask{method: "GET", path: "/v1/events", token: p.reader, header: map[string]string{api.LastEventID: "yesterday"}})
}

func (p *plane) lifeOfDaemon(t *testing.T) {
	p.must(200, ask{method: "GET", path: "/v1/version", token: p.reader}, nil)
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/version"})
	p.must(200, ask{method: "GET", path: "/v1/openapi.yaml"}, nil)
	p.must(200, ask{method: "GET", path: "/v1/health"}, nil)
	metrics := p.must(200, ask{method: "GET", path: "/metrics", token: p.reader}, nil)
	for _, want := range []string{"pgmtls_control_databases 1", "pgmtls_control_proxies_behind 1", `pgmtls_api_requests_total{code="200",method="GET",route="/v1/version"}`, "pgmtls_control_up 1"} {
		if !strings.Contains(string(metrics.body), want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	p.refused(403, api.Forbidden, ask{method: "GET", path: "/metrics", token: p.token(access.NewToken{Name: "one", Kind: access.Database, Database: "d"})})
	if got := p.must(200, ask{method: "GET", path: "/v1/snapshot", token: p.admin}, nil); len(got.body) < 1000 || strings.Contains(string(got.body), "BEGIN PRIVATE KEY") {
		t.Errorf("the snapshot has %d bytes, or a key", len(got.body))
	}
	p.refused(403, api.Forbidden, ask{method: "GET", path: "/v1/snapshot", token: p.reader})
	for _, path := range []string{"/v1/store/compact", "/v1/store/disarm"} {
		p.must(204, ask{method: "POST", path: path, token: p.admin}, nil)
		p.refused(403, api.Forbidden, ask{method: "POST", path: path, token: p.reader})
	}
	if err := p.store.Close(); err != nil {
		t.Error(err)
	}
	p.server.health.at = time.Time{}
	p.refused(503, api.Unavailable, ask{method: "GET", path: "/v1/health"})
	p.refused(503, api.Unavailable, ask{method: "GET", path: "/v1/databases", token: p.admin})
}
