package apiserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

// permissions has every route with every kind of caller. The database of the path is, in this order, the caller's own,
// another one, and none; routes without a database have one letter.
//
//	y  may (whatever becomes of the request)
//	f  403: another scope is needed
//	n  404: there is no such database, as far as the caller is concerned
//	u  401
const permissions = `
route                                                all  read database enrolment agent nobody
GET    {e}                                           yyn  yyn  ynn      fff       fff   uuu
POST   {e}                                           yyn  fff  ynn      fff       fff   uuu
DELETE {e}                                           yyn  fff  ynn      fff       fff   uuu
GET    {e}/ip-rules                                  yyn  yyn  ynn      fff       fff   uuu
POST   {e}/ip-rules                                  yyn  fff  ynn      fff       fff   uuu
GET    {e}/ip-rules/{rule}                           yyn  yyn  ynn      fff       fff   uuu
DELETE {e}/ip-rules/{rule}                           yyn  fff  ynn      fff       fff   uuu
GET    {e}/certificates                              yyn  yyn  ynn      fff       fff   uuu
POST   {e}/certificates                              yyn  fff  ynn      fff       fff   uuu
GET    {e}/certificates/{certificate}                yyn  yyn  ynn      fff       fff   uuu
DELETE {e}/certificates/{certificate}                yyn  fff  ynn      fff       fff   uuu
POST   {e}/certificates/{certificate}/keep           yyn  fff  ynn      fff       fff   uuu
GET    {e}/certificates/{certificate}/files          yyn  fff  ynn      fff       fff   uuu
GET    /v1/databases                                 y    y    y        f         f     u
POST   /v1/databases                                 y    f    f        f         f     u
GET    /v1/databases/{database}                      yyn  yyn  ynn      fff       fff   uuu
DELETE /v1/databases/{database}                      yyn  fff  fff      fff       fff   uuu
POST   /v1/databases/{database}/proxies              yyn  fff  fff      fff       fff   uuu
PATCH  /v1/databases/{database}/proxies/{proxy}      yyn  fff  fff      fff       fff   uuu
DELETE /v1/databases/{database}/proxies/{proxy}      yyn  fff  fff      fff       fff   uuu
GET    /v1/databases/{database}/acknowledgements     yyn  yyn  ynn      fff       fff   uuu
GET    /v1/databases/{database}/url                  yyn  yyn  ynn      fff       fff   uuu
GET    /v1/databases/{database}/enhanced-certificate         yyn  yyn  ynn  fff  fff  uuu
PUT    /v1/databases/{database}/enhanced-certificate         yyn  fff  ynn  fff  fff  uuu
DELETE /v1/databases/{database}/enhanced-certificate         yyn  fff  ynn  fff  fff  uuu
POST   /v1/databases/{database}/enhanced-certificate/renew   yyn  fff  ynn  fff  fff  uuu
PUT    /v1/databases/{database}/enhanced-certificate/upload  yyn  fff  ynn  fff  fff  uuu
GET    /v1/databases/{database}/enhanced-certificate/records yyn  yyn  ynn  fff  fff  uuu
PUT    /client/v11/enhanced_certificates/{database}/enable   yyn  fff  ynn  fff  fff  uuu
PUT    /client/v11/enhanced_certificates/{database}/disable  yyn  fff  ynn  fff  fff  uuu
GET    /client/v11/enhanced_certificates/{database}/status   yyn  yyn  ynn  fff  fff  uuu
GET    /v1/acme                                      y    y    f        f         f     u
POST   /v1/acme/{authority}/rollover                 y    f    f        f         f     u
GET    /v1/targets                                   y    y    y        f         f     u
GET    /v1/spaces                                    y    y    f        f         f     u
GET    /v1/spaces/{space}/ca                         y    y    f        f         f     u
POST   /v1/spaces/{space}/ca/rotate                  y    f    f        f         f     u
POST   /v1/spaces/{space}/ca/import                  y    f    f        f         f     u
GET    /v1/spaces/{space}/ca/{authority}/crl         y    y    f        f         f     u
POST   /v1/spaces/{space}/ca/{authority}/retire      y    f    f        f         f     u
GET    /v1/tokens                                    y    y    f        f         f     u
POST   /v1/tokens                                    y    f    f        f         f     u
DELETE /v1/tokens/{token}                            y    f    f        f         f     u
GET    /v1/agents                                    y    y    f        f         f     u
POST   /v1/agents                                    y    f    f        f         f     u
DELETE /v1/agents/{agent}                            y    f    f        f         f     u
GET    /v1/audit                                     y    y    y        f         f     u
GET    /v1/audit?database={database}                 yyn  yyn  ynn      fff       fff   uuu
GET    /v1/events                                    y    y    y        f         f     u
GET    /v1/events?database={database}                yyn  yyn  ynn      fff       fff   uuu
GET    /v1/snapshot                                  y    f    f        f         f     u
POST   /v1/store/compact                             y    f    f        f         f     u
POST   /v1/store/disarm                              y    f    f        f         f     u
GET    /v1/health                                    y    y    y        y         y     y
GET    /v1/version                                   y    y    y        y         y     u
GET    /v1/openapi.yaml                              y    y    y        y         y     y
GET    /metrics                                      y    y    f        f         f     u
POST   /v1/agent/enroll                              f    f    f        y         f     u
POST   /v1/agent/renew                               f    f    f        f         y     u
GET    /v1/agent/stream                              f    f    f        f         y     u
POST   /v1/agent/reports                             f    f    f        f         y     u
POST   /v1/agent/answers/{question}                  f    f    f        f         y     u
`

func TestEveryRouteLetsInWhomTheTableSays(t *testing.T) {
	p := newPlane(t, nil)
	own, other := p.operational("orders"), p.operational("billing")
	edge := p.enrol("orders")
	callers := []struct {
		name string
		ask  ask
	}{
		{"all", ask{token: p.admin}},
		{"read", ask{token: p.reader}},
		{"database", ask{token: p.token(access.NewToken{Name: "one", Kind: access.Database, Database: own.ID})}},
		{"enrolment", ask{token: p.token(access.NewToken{Name: "enrol", Kind: access.Enrolment, Database: own.ID, Proxy: "edge"})}},
		{"agent", ask{client: edge.client}},
		{"nobody", ask{token: "pgmtls_00000000_" + strings.Repeat("A", 43)}},
	}
	left := map[string]bool{}
	for _, row := range p.server.table(prometheus.NewRegistry()) {
		left[row.method+" "+row.path] = true
	}
	names := func(db api.Database) []string { return []string{db.Name, db.ID} }
	databases := [][]string{names(own), names(other), {"none", "11111111-2222-3333-4444-555555555555"}}
	for _, line := range strings.Split(strings.TrimSpace(permissions), "\n")[1:] {
		fields := strings.Fields(line)
		method, path := fields[0], strings.Replace(fields[1], "{e}", endpointPath, 1)
		plain, _, _ := strings.Cut(path, "?")
		delete(left, method+" "+plain)
		for i, caller := range callers {
			for j, want := range fields[2+i] {
				for k, database := range databases[j] {
					if k > 0 && !strings.Contains(path, "{database}") {
						continue
					}
					if want == 'n' && strings.Contains(path, "?") && caller.name != "database" && k == 1 {
						continue // a database that is gone has a past, which goes by its id
					}
					a := caller.ask
					// The other parts of the path name nothing, so that nothing is changed.
					a.method, a.path = method, parameters.Replace(strings.Replace(path, "{database}", database, 1))
					if got := p.verdict(t, a); got != want {
						t.Errorf("%s by %s: got %c, want %c", a.method+" "+a.path, caller.name, got, want)
					}
				}
			}
		}
	}
	for row := range left {
		t.Errorf("the table does not have %s", row)
	}
}

var parameters = strings.NewReplacer("{rule}", "r", "{certificate}", "c", "{proxy}", "p", "{space}", "nowhere", "{authority}", "a", "{token}", "t", "{agent}", "a", "{question}", "q")

// verdict asks, and tells what kind of answer it was. Answers that go on are cut off.
func (p *plane) verdict(t *testing.T, a ask) rune {
	t.Helper()
	// What would change something for the callers that come after is made to fail after it was let in.
	switch {
	case a.method == "DELETE" && strings.HasSuffix(a.path, "/tls-endpoint"), a.method == "POST" && strings.HasSuffix(a.path, "/tls-endpoint"):
		return p.admission(t, a)
	case a.path == "/v1/snapshot", strings.HasPrefix(a.path, "/v1/events"), a.path == "/v1/agent/stream":
		return p.admission(t, a)
	}
	got := p.ask(a)
	var said api.Error
	if got.status >= 400 {
		if err := json.Unmarshal(got.body, &said); err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case got.status == http.StatusUnauthorized && len(got.header.Values("WWW-Authenticate")) == 2:
		return 'u'
	case got.status == http.StatusForbidden && strings.Contains(said.Message, "permission denied; this needs"):
		return 'f'
	case got.status == http.StatusNotFound && strings.HasPrefix(said.Message, "there is no database"):
		return 'n'
	case got.status >= 500:
		t.Errorf("%s %s: %d %s", a.method, a.path, got.status, got.body)
	}
	return 'y'
}

// admission asks only whether the caller is let in, of routes that would do something or not end.
func (p *plane) admission(t *testing.T, a ask) rune {
	t.Helper()
	client := a.client
	if client == nil {
		client = p.plain
	}
	got, err := client.Do(p.request(a))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	switch got.StatusCode {
	case http.StatusUnauthorized:
		return 'u'
	case http.StatusForbidden:
		return 'f'
	case http.StatusNotFound:
		var said api.Error
		if err := json.NewDecoder(got.Body).Decode(&said); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(said.Message, "there is no database") {
			return 'n'
		}
	}
	return 'y'
}

func TestAnotherDatabaseAndNoneAreAnsweredWordByWordTheSame(t *testing.T) {
	p := newPlane(t, nil)
	own := p.operational("orders")
	p.operational("billing")
	token := p.token(access.NewToken{Name: "one", Kind: access.Database, Database: own.ID})
	for _, path := range []string{"/v1/databases/NAME", endpoint("NAME"), endpoint("NAME") + "/certificates", "/v1/audit?database=NAME", "/v1/databases/NAME/url"} {
		say := func(name string) string {
			return strings.ReplaceAll(string(p.ask(ask{method: "GET", path: strings.Replace(path, "NAME", name, 1), token: token}).body), name, "NAME")
		}
		if other, none := say("billing"), say("nothing"); other != none {
			t.Errorf("GET %s: another's says %s, none says %s", path, other, none)
		}
	}
	var list []api.Database
	p.must(200, ask{method: "GET", path: "/v1/databases", token: token}, &list)
	if len(list) != 1 || list[0].Name != "orders" {
		t.Errorf("got %+v", list)
	}
	var page api.Audit
	p.must(200, ask{method: "GET", path: "/v1/audit", token: token}, &page)
	if len(page.Records) == 0 || slices.ContainsFunc(page.Records, func(r api.Record) bool { return r.Database != "orders" }) {
		t.Errorf("got the trail %+v", page.Records)
	}
}
