package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

// post asks with a body, and wants the status code.
func (p *program) post(path, body string, code int) string {
	p.t.Helper()
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, httptest.NewRequest("POST", "http://localhost"+path, strings.NewReader(body)))
	if answer.Code != code {
		p.t.Errorf("POST %s of %.200s answers %d, want %d: %s", path, body, answer.Code, code, answer.Body)
	}
	return answer.Body.String()
}

// ask posts a value as JSON and reads the answer.
func (p *program) ask(q adminapi.Question) adminapi.Explanation {
	p.t.Helper()
	body, err := json.Marshal(q)
	if err != nil {
		p.t.Fatal(err)
	}
	var e adminapi.Explanation
	if err := json.Unmarshal([]byte(p.post("/explain", string(body), http.StatusOK)), &e); err != nil {
		p.t.Fatal(err)
	}
	return e
}

// summary is a decision with the steps that are not passed.
func summary(e adminapi.Explanation) string {
	text := e.Decision
	if e.Rule != "" {
		text += " by " + e.Rule
	}
	if e.Refusal != nil {
		text += " as " + e.Refusal.Name
	}
	for _, s := range e.Steps {
		if s.Result != "passed" {
			text += ", " + s.Step + " " + string(s.Result)
		}
	}
	return text
}

func TestExplainAnswersWhatWouldBe(t *testing.T) {
	p := newProgram(t)
	if got := summary(p.ask(adminapi.Question{Address: "127.0.0.1"})); got != "refused as no_policy, policy refused" {
		t.Errorf("without a policy: %s", got)
	}
	p.apply("identities: [{subject_cn: app, users: [app]}]\n" + good)
	app := p.ca.MustIssue(t, testpki.Client("app"))
	stranger := testpki.MustCA(t, "Strangers").MustIssue(t, testpki.Client("app"))
	for _, row := range []struct {
		q    adminapi.Question
		want string
	}{
		{adminapi.Question{Address: "127.0.0.1", Certificate: string(app.CertPEM), User: "app", Database: "shop", ServerName: "x.db.example.com"}, "allowed by loopback"},
		{adminapi.Question{Address: "::ffff:203.0.113.9", Certificate: string(app.CertPEM), User: "app"}, "allowed by office"},
		{adminapi.Question{Address: "127.0.0.1", Certificate: string(app.CertPEM)}, "allowed by loopback, user not_asked"},
		{adminapi.Question{Address: "127.0.0.1", Certificate: string(app.CertPEM), User: "postgres"}, "refused as user_not_allowed, user refused"},
		{adminapi.Question{Address: "127.0.0.1", User: "app"}, "refused as no_client_certificate, client_certificate refused, user not_asked"},
		{adminapi.Question{Address: "127.0.0.1", Certificate: string(stranger.CertPEM), User: "app"}, "refused as certificate_unknown_ca, client_certificate refused, user not_asked"},
		{adminapi.Question{Address: "198.51.100.1", Certificate: string(app.CertPEM), User: "app"}, "refused as address_not_allowed, address refused"},
	} {
		e := p.ask(row.q)
		if got := summary(e); got != row.want || e.Generation != "42" || len(e.Digest) != 64 || len(e.Steps) != 5 {
			t.Errorf("%+v: %s, want %s", row.q, got, row.want)
		}
	}
	e := p.ask(adminapi.Question{Address: "198.51.100.1", Certificate: string(app.CertPEM), User: "a\x1bpp", Database: "shop"})
	const want = "FATAL:  no allowlist entry for host \"198.51.100.1\", user \"a\\x1bpp\", database \"shop\"\n" +
		"HINT:  The connection comes from the IPv4 address 198.51.100.1. Add 198.51.100.1/32 to the database's IP rules."
	if e.Refusal.Text != want || e.Refusal.SQLState != "28000" {
		t.Errorf("the client reads\n%s\nwant\n%s", e.Refusal.Text, want)
	}
}

func TestExplainFindsConnections(t *testing.T) {
	p := newProgram(t)
	p.serve()
	p.apply("identities: [{subject_cn: app, users: [app]}]\n" + good)
	app := p.ca.MustIssue(t, testpki.Client("app"))
	p.login(app, "app", "shop")
	id := p.sessions.Table().Sessions()[0].ID
	e := p.ask(adminapi.Question{Connection: id})
	if summary(e) != "allowed by loopback" || e.Connection == nil || !e.Connection.Live || e.Connection.ID != id || e.Connection.Refusal != nil || e.Connection.Generation != "42" {
		t.Errorf("%s: %+v", summary(e), e.Connection)
	}
	serial := p.sessions.Table().Sessions()[0].Grant.Identity.Serial
	for _, text := range []string{serial, strings.ToUpper(strings.ReplaceAll(serial, ":", ""))} {
		if got := summary(p.ask(adminapi.Question{Address: "203.0.113.9", Certificate: text, User: "app"})); got != "allowed by office" {
			t.Errorf("with the serial %s: %s", text, got)
		}
	}

	// What a refused client reads is enough to ask why, and what has changed since is said too.
	read, _ := io.ReadAll(p.connect(app, "postgres", "shop"))
	found := regexp.MustCompile(`\(connection (\w{13})\)`).FindSubmatch(read)
	if found == nil {
		t.Fatalf("the client reads %q", read)
	}
	id = string(found[1])
	eventually.True(t, time.Minute, "the refusal is remembered", func() bool { _, remembered := p.sessions.Asked(id); return remembered })
	e = p.ask(adminapi.Question{Connection: id})
	if summary(e) != "refused as user_not_allowed, user refused" || e.Connection.Live || e.Connection.Refusal.Name != "user_not_allowed" ||
		!strings.Contains(e.Connection.Refusal.Text, "(connection "+id+")") {
		t.Errorf("%s: %+v", summary(e), e.Connection)
	}
	p.apply(good)
	if e = p.ask(adminapi.Question{Connection: id}); summary(e) != "allowed by loopback, user not_asked" || e.Connection.Refusal.Name != "user_not_allowed" {
		t.Errorf("under another policy: %s, %+v", summary(e), e.Connection)
	}
}

func TestExplainSaysWhatIsWrongWithTheQuestion(t *testing.T) {
	p := newProgram(t)
	p.apply(good)
	for _, row := range []struct {
		body string
		code int
		want string
	}{
		{"", 400, "not a query in JSON"},
		{"[]", 400, "not a query in JSON"},
		{`{"adress": "127.0.0.1"}`, 400, `unknown field "adress"`},
		{`{"address": "127.0.0.1"} {}`, 400, "data after the query"},
		{`{}`, 400, "address is not an IP address"},
		{`{"address": "localhost"}`, 400, "address is not an IP address"},
		{`{"conn": "0000000000000"}`, 404, "no such connection"},
		{`{"conn": "0000000000000", "user": "app"}`, 400, "leave them out"},
		{`{"address": "127.0.0.1", "certificate": "app.crt"}`, 400, "neither PEM nor a serial"},
		{`{"address": "127.0.0.1", "certificate": "0a:0b"}`, 400, "no live session has a certificate with the serial 0a:0b"},
		{`{"address": "127.0.0.1", "certificate": "-----BEGIN CERTIFICATE-----\nAA"}`, 400, "certificate: "},
		{`{"address": "127.0.0.1", "user": "` + strings.Repeat("u", maxBody) + `"}`, 413, "larger than 131072 bytes"},
	} {
		if got := p.post("/explain", row.body, row.code); !strings.Contains(got, row.want) {
			t.Errorf("%.100s: %s, want %s", row.body, got, row.want)
		}
	}
	key, err := json.Marshal(adminapi.Question{Address: "127.0.0.1", Certificate: string(p.server.CertPEM) + string(p.server.KeyPEM)})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.post("/explain", string(key), 400); !strings.Contains(got, "there is a private key") {
		t.Errorf("a private key is answered %s", got)
	}
}

// A web page that a user of this host visits must not ask for it.
func TestBrowsersMayNotAskForOthers(t *testing.T) {
	p := newProgram(t)
	for _, path := range []string{"/explain", "/dry-run"} {
		request := httptest.NewRequest("POST", "http://localhost"+path, strings.NewReader(`{"address": "127.0.0.1"}`))
		request.Header.Set("Origin", "https://evil.example")
		request.Header.Set("Sec-Fetch-Site", "cross-site")
		answer := httptest.NewRecorder()
		p.handler.ServeHTTP(answer, request)
		if answer.Code != http.StatusForbidden {
			t.Errorf("%s answers %d", path, answer.Code)
		}
		p.get(path, http.StatusMethodNotAllowed)
	}
}
