package cli_test

import (
	"encoding/json"
	"slices"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// pages are the answers behind each transcript.
var pages = map[string]func() map[string][]canned{
	"databases": databasePages, "mtls": mtlsPages, "ip-rules": rulePages, "wide-rules": wideRulePages, "tables": tablePages, "certificates": certificatePages,
	"ca": authorityPages, "access": accessPages, "trail": trailPages, "errors": errorPages, "enhanced": enhancedPages,
}

const (
	databaseID = "7b1de3e7-3b0c-4d6e-9a55-0d5f0c9f2a01"
	ruleID     = "38c466b6-dcfb-4869-b5ac-40420b786fb4"
	certID     = "0b2e7d1c-53a4-4d0b-8f52-5c1d2e3f4a5b"
	nextID     = "1c3f8e2d-64b5-4e1c-9063-6d2e3f405b6c"

	shop     = "/v1/databases/shop"
	endpoint = "/postgres/v0/databases/shop/tls-endpoint"
)

func database() api.Database {
	return api.Database{
		ID: databaseID, Name: "shop", Space: "default", Hosts: []string{"shop.db.example.com", "10.0.0.7"}, Port: 5432,
		MTLS: api.Operational, ClientAuth: "required", Generation: 7, CreatedAt: start.Add(-48 * time.Hour), UpdatedAt: start,
		Proxies: []api.Proxy{
			{Name: "local", Node: "db1", PolicyDir: "/var/lib/pgmtls/policies/shop", Admin: "127.0.0.1:9815", CreatedAt: start},
			{Name: "edge-1", CreatedAt: start},
		},
	}
}

func acknowledged() api.Acknowledgements {
	return api.Acknowledgements{
		Database: "shop", Generation: 7, InForce: true, Waiting: []api.Waiting{},
		Proxies: []api.ProxyAcknowledgement{
			{Proxy: "local", Applied: 7, InForce: 7, At: start.Add(-2 * time.Second), Version: "v1.2.3", ClockSkew: new(int64)},
			{Proxy: "edge-1", Applied: 7, InForce: 7, At: start.Add(-5 * time.Second)},
		},
	}
}

// behindBy is what is said while edge-1 has not acknowledged something.
func behindBy(waiting api.Waiting) api.Acknowledgements {
	a := acknowledged()
	waiting.Generation, waiting.Proxies = 8, []string{"edge-1"}
	a.Generation, a.InForce, a.Waiting = 8, false, []api.Waiting{waiting}
	a.Proxies[0].Applied, a.Proxies[0].InForce = 8, 8
	a.Proxies[1].At = start.Add(-3 * time.Minute)
	return a
}

func databasePages() map[string][]canned {
	fresh := database()
	fresh.Proxies, fresh.MTLS, fresh.Generation = []api.Proxy{}, "", 0
	waiting := behindBy(api.Waiting{Kind: api.WaitingRule, ID: ruleID, Name: "203.0.113.7/32", Status: api.Authorizing, Until: api.UntilApplied})
	waiting.Proxies[1].Error, waiting.Proxies[1].ErrorKind = "client-ca.pem: no certificate\x1b[31m", api.ErrorRefused
	waiting.Proxies[0].Drift = "policy.yaml"
	return map[string][]canned{
		"GET /v1/databases":                        {ok([]api.Database{}), ok([]api.Database{database(), fresh})},
		"POST /v1/databases":                       {{201, fresh}},
		"GET " + shop:                              {ok(database())},
		"DELETE " + shop:                           {{204, nil}},
		"GET " + shop + "/acknowledgements":        {ok(acknowledged()), ok(acknowledged()), ok(waiting)},
		"POST " + shop + "/proxies":                {{201, database()}},
		"DELETE " + shop + "/proxies/edge-1":       {ok(database())},
		"GET " + shop + "/url?sslmode=require":     {ok(connect(api.Place{Host: "shop.db.example.com", Port: 5432, SSLMode: api.SSLRequire}))},
		"GET " + shop + "/url?sslmode=verify-full": {ok(connect(api.Place{Host: "shop.db.example.com", Port: 5432}))},
		"GET " + shop + "/url?dbname=shop&sslmode=verify-full&user=app": {
			ok(connect(api.Place{Host: "shop.db.example.com", Port: 5432, User: "app", DBName: "shop"}))},
	}
}

// connect is what the API answers for a database with mutual TLS.
func connect(place api.Place) api.Connection {
	c := api.Connect(place)
	c.ClientCertificate = true
	return c
}

func tls(status string) api.TLSEndpoint {
	return api.TLSEndpoint{App: "default", Addon: "shop", Status: status, EnabledBy: "admin", ActiveIPRules: []string{}, CertificateAuthorityChain: "PEM"}
}

func mtlsPages() map[string][]canned {
	return map[string][]canned{
		"POST " + endpoint: {{201, tls(api.Provisioning)}},
		"GET " + endpoint: slices.Concat(
			[]canned{ok(tls(api.Operational))},
			slices.Repeat([]canned{ok(tls(api.Provisioning))}, 8), []canned{ok(tls(api.Operational))},
			slices.Repeat([]canned{ok(tls(api.Provisioning))}, 8), []canned{ok(tls(api.Operational))}, // on a terminal
			[]canned{refuse(api.NotFound, "shop has no mutual TLS")}),
		"DELETE " + endpoint: {{202, tls(api.Deprovisioning)}},
		"GET " + shop + "/acknowledgements": {ok(behindBy(api.Waiting{
			Kind: api.WaitingTLSEndpoint, Name: "shop", Status: api.Provisioning, Until: api.UntilApplied}))},
	}
}

func rule(status string) api.Rule {
	return api.Rule{ID: ruleID, CIDR: "203.0.113.7/32", Description: "My office", Status: status, CreatedAt: start, UpdatedAt: start}
}

func rulePages() map[string][]canned {
	limited := rule(api.Authorizing)
	limited.ExpiresAt = start.Add(8 * time.Hour)
	waiting := behindBy(api.Waiting{Kind: api.WaitingRule, ID: ruleID, Name: "203.0.113.7/32", Status: api.Authorizing, Until: api.UntilApplied})
	leaving := behindBy(api.Waiting{Kind: api.WaitingRule, ID: ruleID, Name: "203.0.113.7/32", Status: api.Deauthorizing, Until: api.UntilInForce})
	dryRun := api.RuleDryRun{Rule: rule(api.Authorized), Ended: 2}
	err := json.Unmarshal([]byte(`[
		{"proxy": "local", "effect": {"ok": true, "sessions_kept": 0, "sessions_ended": 2, "sessions": [
			{"conn": "8aq0as81xzf56", "addr": "203.0.113.7:51234", "since": "2026-11-22T04:00:00Z", "user": "app", "database": "shop"}]}},
		{"proxy": "edge-1", "error": "its agent is not connected"}]`), &dryRun.Proxies)
	if err != nil {
		panic(err) // the text above is wrong
	}
	rules := endpoint + "/ip-rules"
	return map[string][]canned{
		"GET " + rules:  {ok([]api.Rule{}), ok([]api.Rule{rule(api.Authorized), limited})},
		"POST " + rules: {{201, rule(api.Authorizing)}, {201, limited}, {201, rule(api.Authorizing)}, {201, rule(api.Authorizing)}},
		"GET " + rules + "/" + ruleID: {
			ok(rule(api.Authorizing)), ok(rule(api.Authorizing)), ok(rule(api.Authorized)), // create --wait
			ok(rule(api.Authorizing)), ok(rule(api.Authorized)), // on a terminal
			ok(rule(api.Authorized)), // get
			ok(rule(api.Authorized)), // found for delete
			refuse(api.NotFound, "no such rule")},
		"GET " + shop + "/acknowledgements":                {ok(waiting), ok(waiting), ok(waiting), ok(leaving)},
		"DELETE " + rules + "/" + ruleID:                   {{202, rule(api.Deauthorizing)}},
		"DELETE " + rules + "/" + ruleID + "?dry_run=true": {ok(dryRun)},
	}
}

func wideRulePages() map[string][]canned {
	everybody, half := rule(api.Authorized), rule(api.Authorizing)
	everybody.CIDR, half.CIDR = "::/0", "0.0.0.0/1"
	rules := endpoint + "/ip-rules"
	return map[string][]canned{
		"GET " + rules:  {ok([]api.Rule{everybody, rule(api.Authorized), half})},
		"POST " + rules: {{201, everybody}, {201, half}, {201, half}},
	}
}

func certificate(status string) api.Certificate {
	return api.Certificate{ID: certID, Name: "reporting", Status: status, Serial: "1f:0a:99", CreatedAt: start, UpdatedAt: start,
		ExpiresAt: start.AddDate(0, 13, 0)}
}

func certificatePages() map[string][]canned {
	old, later := certificate(api.Ready), certificate(api.Ready)
	old.Successor = nextID
	next := certificate(api.Ready)
	next.ID, next.Predecessor = nextID, certID
	later.DisableAt = start.Add(24 * time.Hour)
	gone := certificate(api.Disabled)
	shown := certificate(api.Ready)
	shown.PrivateKey, shown.CertificateWithChain = "KEY", "CERT"
	certificates := endpoint + "/certificates"
	one := certificates + "/" + certID
	return map[string][]canned{
		"GET " + certificates: {ok([]api.Certificate{}), ok([]api.Certificate{gone, old, next, later}),
			ok([]api.Certificate{certificate(api.Pending)}), ok([]api.Certificate{certificate(api.Ready)}), // create --wait
			ok([]api.Certificate{certificate(api.Disabling)}), ok([]api.Certificate{gone}), // delete --wait
			ok([]api.Certificate{gone, old, next, later})},
		"POST " + certificates:              {{201, certificate(api.Pending)}},
		"GET " + one:                        {ok(shown)},
		"DELETE " + one:                     {{202, certificate(api.Disabling)}},
		"DELETE " + one + "?after=24h0m0s":  {ok(later)},
		"POST " + one + "/keep":             {ok(certificate(api.Ready)), refuse(api.Conflict, "no delete is to come")},
		"GET " + shop + "/acknowledgements": {ok(acknowledged())},
	}
}

func spaceCA(state string, users ...api.CAUser) api.Authority {
	if users == nil {
		users = []api.CAUser{}
	}
	return api.Authority{ID: "5e:" + state, Space: "default", Subject: "CN=default CA", State: state, Certificate: "PEM", Chain: "PEM",
		NotBefore: start, NotAfter: start.AddDate(10, 0, 0), Users: users, CreatedAt: start, UpdatedAt: start}
}

func authorityPages() map[string][]canned {
	old := spaceCA(api.RetiringCA, api.CAUser{Database: "shop", Server: true},
		api.CAUser{Database: "shop", Certificate: certID, Name: "reporting", Sessions: 3, LastSeen: start, ExpiresAt: start.AddDate(0, 2, 0)})
	ca := "/v1/spaces/default/ca"
	active := spaceCA(api.ActiveCA)
	active.AsOf, old.AsOf = start, start
	old.Unanswered = []api.SilentProxy{{Database: "shop", Proxy: "edge-1", Error: "proxy edge-1 did not answer within 5s; is it running, and its agent connected?"}}
	retire := "POST " + ca + "/5e:retiring/retire"
	return map[string][]canned{
		"GET /v1/spaces":                 {ok([]string{"default"}), ok([]string{"default", "eu"}), ok([]string{})},
		"GET " + ca:                      {ok([]api.Authority{spaceCA(api.ActiveCA), old})},
		"GET " + ca + "?ask=true":        {ok([]api.Authority{active, old}), ok([]api.Authority{})},
		"POST " + ca + "/rotate":         {{201, spaceCA(api.ActiveCA)}},
		"GET " + ca + "/5e:retiring/crl": {ok(api.CRL{CRL: "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", Number: 7, Revoked: 2, NextUpdate: start.AddDate(0, 0, 30)})},
		retire:                           {refuse(api.Conflict, "1 certificate of it is in use"), ok(spaceCA(api.RetiredCA))},
		retire + "?force=true":           {ok(spaceCA(api.RetiredCA))},
	}
}

func accessPages() map[string][]canned {
	return map[string][]canned{
		"GET /v1/tokens": {ok([]api.Token{
			{ID: "0a1b2c3d", Name: "admin", Scope: api.ScopeAll, CreatedAt: start, LastUsedAt: start},
			{ID: "1a1b2c3d", Name: "terraform", Scope: api.ScopeDatabase, Database: databaseID, DatabaseName: "shop", CreatedAt: start, ExpiresAt: start.AddDate(1, 0, 0)},
			{ID: "2a1b2c3d", Name: "edge-1", Scope: api.ScopeAgent, Database: databaseID, DatabaseName: "shop", Proxy: "edge-1", CreatedAt: start},
		})},
		"POST /v1/tokens":            {{201, api.Token{ID: "3a1b2c3d", Name: "grafana", Scope: api.ScopeRead, CreatedAt: start, Secret: "pgmtls_3a1b2c3d_S"}}},
		"DELETE /v1/tokens/3a1b2c3d": {{204, nil}},
		"GET /v1/agents": {ok([]api.Agent{}), ok([]api.Agent{
			{ID: "a1", Database: databaseID, DatabaseName: "shop", Proxy: "edge-1", Serial: "0a", EnrolledAt: start, ExpiresAt: start.AddDate(0, 0, 90), LastSeenAt: start.Add(-90 * time.Second)},
		})},
		"POST /v1/agents":      {{201, api.Enrolment{Token: "pgmtls_4a1b2c3d_T", Database: databaseID, Proxy: "edge-1", ExpiresAt: start.Add(time.Hour), ControlCA: "PEM\n", ControlURL: "https://pgmtls.internal:9816"}}},
		"DELETE /v1/agents/a1": {{204, nil}},
	}
}

func trailPages() map[string][]canned {
	record := api.Record{ID: "1-1", At: start, Actor: "admin", Address: "192.0.2.9", Action: "ip_rule.create", Database: "shop", Object: ruleID,
		Detail: map[string]string{"description": "My\x1b[2J office", "cidr": "203.0.113.7/32"}}
	second := api.Record{ID: "1-0", At: start.Add(-time.Minute), Actor: "system", Action: "ca.create", Space: "default"}
	return map[string][]canned{
		"GET /v1/audit?limit=100":             {ok(api.Audit{Records: []api.Record{record, second}})},
		"GET /v1/audit?limit=1000":            {ok(api.Audit{Records: []api.Record{record}, Next: "1-1"})},
		"GET /v1/audit?before=1-1&limit=1000": {ok(api.Audit{Records: []api.Record{second}})},
		"GET /v1/audit?database=shop&limit=1": {ok(api.Audit{Records: []api.Record{record}, Next: "1-1"})},
		"GET /v1/version":                     {ok(api.Version{Version: "v1.2.4", Go: "go1.26.11"})},
		"GET /v1/snapshot":                    {ok("etcd's bytes")},
	}
}

func errorPages() map[string][]canned {
	return map[string][]canned{
		"GET /v1/databases":              {refuse(api.Internal, "a fault of the server")},
		"GET /v1/databases/nothing":      {refuse(api.NotFound, "there is no database nothing")},
		"POST " + endpoint + "/ip-rules": {refuse(api.InvalidParams, "203.0.113.7/24 has host bits: write 203.0.113.0/24")},
		"GET /v1/tokens":                 {refuse(api.Forbidden, "this needs a token of scope all")},
		"GET /v1/agents":                 {refuse(api.RateLimit, "too many requests")},
	}
}

// tablePages are answers with more in them than a terminal has room for.
func tablePages() map[string][]canned {
	const sibling, other, agentID = "38c466b6-d1fb-4869-b5ac-40420b786fb5", "0a1b2c3d-dcfb-4869-b5ac-40420b786fb4", "7f3c1d2e-0000-4000-8000-40420b786fb4"
	rules := endpoint + "/ip-rules"
	first, second, third := rule(api.Authorized), rule(api.Authorizing), rule(api.Deauthorizing)
	second.ID, second.CIDR, second.ExpiresAt = sibling, "2001:db8:1234:5678:9abc:def0:1234:5678/128", start.Add(8*time.Hour)
	third.ID, third.ExpiresAt = other, start.Add(90*24*time.Hour)
	third.Description = "The office of a customer whose description does not fit into one line of a terminal, as many do not"
	long := database()
	long.Name, long.Hosts = "a-database-with-a-name-of-some-length", []string{"a-database-with-a-name-of-some-length.databases.example.com", "10.0.0.7"}
	reports := acknowledged()
	reports.Proxies[0].Proxy = "a-proxy-with-a-name-of-some-length"
	old, next := certificate(api.Ready), certificate(api.Ready)
	next.ID, next.Predecessor, next.Name = nextID, certID, "reporting-of-the-whole-company-for-all-of-its-databases-2026"
	old.Successor = nextID
	leaving := certificate(api.Ready)
	leaving.ID, leaving.DisableAt = other, start.Add(24*time.Hour)
	ca := spaceCA(api.ActiveCA, api.CAUser{Database: "shop", Server: true, ExpiresAt: start.AddDate(0, 2, 0)},
		api.CAUser{Database: long.Name, Certificate: certID, Name: next.Name, Sessions: 3, LastSeen: start.Add(-3 * time.Minute), ExpiresAt: start.AddDate(0, 2, 0)})
	record := api.Record{ID: "1-1", At: start.Add(-time.Hour), Actor: "agent:7f3c1d2e", Address: "192.0.2.9", Action: "certificate.key_read", Database: long.Name, Object: certID,
		Detail: map[string]string{"serial": "1f:0a:99:1f:0a:99:1f:0a:99:1f:0a:99:1f:0a:99:1f:0a", "cidr": "203.0.113.7/32"}}
	again := record
	again.Object, again.At = nextID, start
	return map[string][]canned{
		"GET " + rules:                 {ok([]api.Rule{first, second, third})},
		"GET " + rules + "/" + sibling: {ok(second)},
		"GET " + rules + "/38C466B6-D1fb-4869-b5ac-40420b786fb5": {ok(second)},
		"GET " + rules + "/" + other:                             {ok(third)},
		"GET " + rules + "/0a1":                                  {refuse(api.NotFound, "database shop has no IP rule 0a1")},
		"GET " + rules + "/ffff":                                 {refuse(api.NotFound, "database shop has no IP rule ffff")},
		"GET /v1/databases":                                      {ok([]api.Database{long, database()})},
		"GET " + shop:                                            {ok(database())},
		"GET " + shop + "/acknowledgements":                      {ok(reports)},
		"GET " + endpoint + "/certificates":                      {ok([]api.Certificate{old, next, leaving})},
		"GET /v1/spaces/default/ca?ask=true":                     {ok([]api.Authority{ca})},
		"GET /v1/tokens": {ok([]api.Token{{ID: "1a1b2c3d", Name: "terraform-of-the-platform-team", Scope: api.ScopeDatabase, Database: databaseID,
			DatabaseName: long.Name, CreatedAt: start, ExpiresAt: start.AddDate(1, 0, 0), LastUsedAt: start.Add(-40 * time.Second)}})},
		"GET /v1/agents": {ok([]api.Agent{{ID: agentID, Database: databaseID, DatabaseName: long.Name, Proxy: "a-proxy-with-a-name-of-some-length", Serial: "0a",
			EnrolledAt: start, ExpiresAt: start.AddDate(0, 0, 90), LastSeenAt: start.Add(-90 * time.Second)}})},
		"DELETE /v1/agents/" + agentID: {{204, nil}},
		"GET /v1/audit?limit=100":      {ok(api.Audit{Records: []api.Record{again, record}})},
	}
}
