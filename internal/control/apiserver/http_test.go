package apiserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

func TestTokenComesAsBearerOrAsPasswordOfAnybody(t *testing.T) {
	p := newPlane(t, nil)
	basic := func(user, password string) map[string]string {
		r, _ := http.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, password)
		return map[string]string{"Authorization": r.Header.Get("Authorization")}
	}
	for name, test := range map[string]struct {
		header map[string]string
		want   int
	}{
		"bearer":              {map[string]string{"Authorization": "Bearer " + p.reader}, 200},
		"bearer in lower":     {map[string]string{"Authorization": "bearer " + p.reader}, 200},
		"basic":               {basic("", p.reader), 200},
		"basic with a user":   {basic("admin", p.reader), 200},
		"basic, token twice":  {basic(p.admin, p.reader), 200},
		"basic of no token":   {basic(p.reader, "hunter2"), 401},
		"basic the other way": {basic(p.reader, ""), 401},
		"another scheme":      {map[string]string{"Authorization": "Token " + p.reader}, 401},
		"no scheme":           {map[string]string{"Authorization": p.reader}, 401},
		"bearer of nothing":   {map[string]string{"Authorization": "Bearer "}, 401},
		"broken base64":       {map[string]string{"Authorization": "Basic %%%"}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			p.must(test.want, ask{method: "GET", path: "/v1/version", header: test.header}, nil)
		})
	}
	r := p.request(ask{method: "GET", path: "/v1/version", token: p.reader})
	r.Header.Add("Authorization", "Bearer "+p.admin)
	got, err := p.client(nil).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	if got.StatusCode != http.StatusUnauthorized {
		t.Errorf("two tokens: %d", got.StatusCode)
	}
}

func TestTokenCountsAlsoBesideACertificate(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	edge := p.enrol("orders")
	p.must(200, ask{method: "GET", path: "/v1/databases", token: p.reader, client: edge.client}, nil)
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/version", token: "wrong", client: edge.client})
}

func TestClientsOfHerokuAreUnderstood(t *testing.T) {
	p := newPlane(t, nil)
	p.database("orders")
	header := map[string]string{"Accept": "application/vnd.heroku+json; version=3", "Content-Type": "application/json", "User-Agent": "heroku-go/v5"}
	p.must(201, ask{method: "POST", path: endpoint("orders"), token: p.admin, header: header, body: "null"}, nil)
	p.must(200, ask{method: "GET", path: endpoint("orders"), token: p.admin, header: header, body: `{"a": 1}`}, nil) // a GET with a body
	got := p.must(201, ask{method: "POST", path: endpoint("orders") + "/certificates", token: p.admin, header: header}, nil)
	if got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got the type %s", got.header.Get("Content-Type"))
	}
	p.must(201, ask{method: "POST", path: endpoint("orders") + "/ip-rules", token: p.admin, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, body: `{"cidr": "0.0.0.0/0", "addon": "x"}`}, nil)
	for range 20 { // frequent polling
		p.must(200, ask{method: "GET", path: endpoint("orders") + "/ip-rules", token: p.admin, header: header}, nil)
	}
}

// Clients that join paths put a slash at the end. It means what the path without it means.
func TestFinalSlashOfAPathCountsForNothing(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	for _, path := range []string{"/v1/databases", "/v1/version", "/v1/databases/orders", endpoint("orders"), endpoint("orders") + "/ip-rules"} {
		without, with := p.ask(ask{method: "GET", path: path, token: p.admin}), p.ask(ask{method: "GET", path: path + "/", token: p.admin})
		if without.status != 200 || with.status != 200 || string(with.body) != string(without.body) {
			t.Errorf("%s: %d %s, with a slash %d %s", path, without.status, without.body, with.status, with.body)
		}
	}
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/databases/"})
	p.refused(403, api.Forbidden, ask{method: "DELETE", path: "/v1/databases/orders/", token: p.reader})
	p.must(201, ask{method: "POST", path: endpoint("orders") + "/ip-rules/", token: p.admin, body: `{"cidr": "203.0.113.7/32"}`}, nil)
}

func TestErrorsOfHTTPAreJSON(t *testing.T) {
	p := newPlane(t, nil)
	for _, test := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/nothing", 404, ""},
		{"GET", "/v1/nothing/", 404, ""},
		{"GET", endpoint("orders") + "/ip-rules/", 404, ""}, // the database's, which there is not
		{"DELETE", "/v1/databases/", 405, "GET, HEAD, POST"},
		{"GET", "/v1/databases//", 404, ""},
		{"GET", "/v1/databases/%2F", 404, ""},
		{"GET", "/v1/databases/./", 404, ""},
		{"GET", "//v1/databases", 404, ""},
		{"GET", "/v1/../v1/databases", 404, ""},
		{"GET", "/v1/databases/a%2Fb", 404, ""},
		{"GET", "/v1/databases/%00", 404, ""},
		{"GET", "/v1/databases/..%2F..%2Ftokens", 404, ""},
		{"GET", "/v1/databases/" + strings.Repeat("a", 200), 404, ""},
		{"PUT", "/v1/databases", 405, "GET, HEAD, POST"},
		{"OPTIONS", "/v1/databases", 405, "GET, HEAD, POST"},
		{"BREW", "/v1/databases", 405, "GET, HEAD, POST"},
		{"PATCH", endpoint("orders"), 405, "DELETE, GET, HEAD, POST"},
		{"GET", "/v1/agent/reports", 405, "POST"},
		{"HEAD", "/v1/events", 405, "GET"},
		{"HEAD", "/v1/snapshot", 405, "GET"},
	} {
		got := p.ask(ask{method: test.method, path: test.path, token: p.admin})
		if got.status != test.status || got.header.Get("Allow") != test.allow {
			t.Errorf("%s %s: got %d and Allow %q, want %d and %q", test.method, test.path, got.status, got.header.Get("Allow"), test.status, test.allow)
		}
	}
	head := p.ask(ask{method: "HEAD", path: "/v1/version", token: p.admin})
	if head.status != 200 || len(head.body) != 0 || head.header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %q %v", head.status, head.body, head.header)
	}
	p.refused(403, api.Forbidden, ask{method: "POST", path: "/v1/databases", token: p.admin, header: map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}})
}

func TestBodiesHaveBounds(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	edge := p.enrol("orders")
	filled := func(n int) string { return `{"x": "` + strings.Repeat("a", n) + `"}` }
	for _, test := range []struct {
		path  string
		ask   ask
		bound int
	}{
		{endpoint("orders") + "/ip-rules", ask{token: p.admin}, api.MaxBody},
		{"/v1/tokens", ask{token: p.admin}, api.MaxBody},
		{"/v1/spaces/acme/ca/import", ask{token: p.admin}, api.MaxImport},
		{"/v1/agent/reports", ask{client: edge.client}, api.MaxReport},
	} {
		a := test.ask
		a.method, a.path, a.body = "POST", test.path, filled(test.bound)
		p.refused(413, api.TooLarge, a)
		a.body = filled(test.bound - 100)
		if got := p.ask(a); got.status == 413 {
			t.Errorf("%s: a body just below the bound is refused", test.path)
		}
	}
}

func TestUnknownFieldsAreRefusedWhereTheyAreOurs(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	edge := p.enrol("orders")
	said := p.refused(400, api.BadRequest, ask{method: "POST", path: "/v1/tokens", token: p.admin, body: `{"name": "x", "scope": "all", "expires": "never"}`})
	if !strings.Contains(said.Message, "unknown field expires") {
		t.Errorf("got %q", said.Message)
	}
	// An agent that is newer than the daemon has more to say.
	p.must(204, ask{method: "POST", path: "/v1/agent/reports", client: edge.client, body: `{"applied": 0, "in_force": 0, "mood": "good"}`}, nil)
}

func TestRequestHasAnIDInAndOut(t *testing.T) {
	p := newPlane(t, nil)
	for given, kept := range map[string]bool{"abc-1.2_3": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "": false} {
		got := p.ask(ask{method: "GET", path: "/v1/version", token: p.reader, header: map[string]string{api.RequestIDHeader: given}})
		id := got.header.Get(api.RequestIDHeader)
		if kept != (id == given) || !requestID.MatchString(id) {
			t.Errorf("%q came back as %q", given, id)
		}
		if !strings.Contains(p.log.String(), `"request_id":"`+id+`"`) {
			t.Errorf("the log does not have %q", id)
		}
	}
}

func TestEachRequestIsOneLineOfTheLogAndNoSecretIsInIt(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	var made api.Token
	p.must(201, ask{method: "POST", path: "/v1/tokens", token: p.admin, body: api.NewToken{Name: "two", Scope: api.ScopeAll}}, &made)
	before := strings.Count(p.log.String(), "\n")
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/version?token=" + p.reader, token: made.Secret[:58] + "!"})
	p.refused(400, api.BadRequest, ask{method: "POST", path: "/v1/spaces/acme/ca/import", token: p.admin, body: `{"private_key": "CANARY", "x": CANARY}`})
	p.refused(400, api.BadRequest, ask{method: "POST", path: "/v1/tokens", token: p.admin, body: `{"CANARY": 1}`})
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/spaces/acme/ca/import", token: p.admin, body: api.ImportCA{Certificate: "CANARY", PrivateKey: "CANARY"}})
	text := p.log.String()
	if lines := strings.Count(text, "\n") - before; lines != 4 {
		t.Errorf("4 requests made %d lines", lines)
	}
	for _, secret := range []string{made.Secret[16:], p.admin[16:], p.reader[16:], "CANARY", "PRIVATE KEY"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has the secret %.12s…", secret)
		}
	}
	for _, want := range []string{`"caller":"admin"`, `"addr":"127.0.0.1"`, `"route":"/v1/spaces/{space}/ca/import"`, `"error_id":"unauthorized"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not have %s", want)
		}
	}
}

func TestPanicIsAnErrorWithAnIDAndNothingElse(t *testing.T) {
	p := newPlane(t, nil)
	row := &route{path: "/broken", open: true, do: func(*call) error { panic("CANARY") }}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/broken", nil)
	p.server.serve(row, w, r)
	var said api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != 500 || said.ID != api.Internal || strings.Contains(w.Body.String(), "CANARY") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if !strings.Contains(p.log.String(), `"panic":"CANARY"`) {
		t.Error("the log does not have the panic")
	}
	// When the answer has begun, it is cut off.
	begun := &route{path: "/broken", open: true, do: func(c *call) error { c.done(); panic("CANARY") }}
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("got the panic %v", got)
		}
	}()
	p.server.serve(begun, httptest.NewRecorder(), r)
}

func TestTooManyRequestsOfOneCallerAreRefused(t *testing.T) {
	p := newPlane(t, func(o *Options) { o.Rate, o.Burst = 0.001, 3 })
	other := p.token(access.NewToken{Name: "other", Kind: access.Read})
	statuses := func(a ask) (got []int) {
		for range 5 {
			got = append(got, p.ask(a).status)
		}
		return got
	}
	want := func(got []int, good int) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint([]int{good, good, good, 429, 429}) {
			t.Errorf("got %v", got)
		}
	}
	want(statuses(ask{method: "GET", path: "/v1/version", token: p.reader}), 200)
	want(statuses(ask{method: "GET", path: "/v1/version", token: other}), 200)
	want(statuses(ask{method: "GET", path: "/v1/version", token: "wrong"}), 401)
	want(statuses(ask{method: "GET", path: "/v1/version", token: p.admin}), 200) // not shut out by who is wrong at the same address
	if got := p.ask(ask{method: "GET", path: "/v1/health"}); got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("an open path after wrong tokens: %d", got.status)
	}
}

func TestBodyThatDoesNotArriveIsNotWaitedForLong(t *testing.T) {
	p := newPlane(t, nil)
	connection, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{RootCAs: p.roots, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{\"name\"", p.admin)
	if err := connection.CloseWrite(); err != nil { // what a deadline makes of it, without the wait
		t.Fatal(err)
	}
	got, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return // the connection was closed, which is as good
	}
	defer got.Body.Close()
	if text, _ := io.ReadAll(got.Body); got.StatusCode != 400 {
		t.Errorf("got %d %s", got.StatusCode, text)
	}
}

func TestMarkInFrontOfABodyIsSkipped(t *testing.T) {
	var body api.NewRule
	if err := decode([]byte("\ufeff{\"cidr\": \"::/0\"}"), &body, true); err != nil || body.CIDR != "::/0" {
		t.Errorf("got %+v, %v", body, err)
	}
	if err := decode([]byte("\ufeff\ufeff{}"), &body, true); err == nil {
		t.Error("two marks are skipped")
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"\ufeff{}", `{"cidr": "::/0"}`, `{"cidr": 1}`, `{} {}`, ` {"expires_at": "x"}`, "null", "[]", "", "{", `{"a":`, "\x00", `{"cidr": "\ud800"}`, `{"x": {"y": [{"z": 1}]}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, strict := range []bool{true, false} {
			var body api.NewRule
			err := decode(text, &body, strict)
			plain := bytes.TrimPrefix(text, []byte("\ufeff"))
			if err == nil && (!json.Valid(plain) || bytes.TrimLeft(plain, " \t\r\n")[0] != '{') {
				t.Errorf("%q is taken", text)
			}
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("%q gives an error of %d bytes", text, len(err.Error()))
			}
		}
	})
}
