package apiserver

import (
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

func TestProxyBesideTheDaemonIsOnlyWhatItsOperatorAllows(t *testing.T) {
	p := newPlane(t, nil)
	p.database("orders")
	path := "/v1/databases/orders/proxies"
	dir := p.dir("orders")
	for name, body := range map[string]string{
		"an address of the network": `{"name": "x1", "policy_dir": "` + dir + `", "admin": "192.0.2.1:9815"}`,
		"every address":             `{"name": "x1", "policy_dir": "` + dir + `", "admin": "0.0.0.0:9815"}`,
		"a host name":               `{"name": "x1", "policy_dir": "` + dir + `", "admin": "localhost:9815"}`,
		"a relative socket":         `{"name": "x1", "policy_dir": "` + dir + `", "admin": "unix:admin.sock"}`,
		"no address":                `{"name": "x1", "policy_dir": "` + dir + `"}`,
		"not a directory":           `{"name": "x1", "admin": "127.0.0.1:9815"}`,
		"a directory outside":       local("x1", "/etc"),
		"another node":              `{"name": "x1", "node": "there", "policy_dir": "` + dir + `", "admin": "127.0.0.1:9815"}`,
		"a node without directory":  `{"name": "x1", "node": "here"}`,
	} {
		t.Run(name, func(t *testing.T) {
			p.refused(422, api.InvalidParams, ask{method: "POST", path: path, token: p.admin, body: body})
		})
	}
	own := p.token(access.NewToken{Name: "one", Kind: access.Database, Database: p.database("billing").ID})
	p.refused(403, api.Forbidden, ask{method: "POST", path: "/v1/databases/billing/proxies", token: own, body: local("near", dir)})

	var db api.Database
	p.must(201, ask{method: "POST", path: path, token: p.admin, body: `{"name": "near", "policy_dir": "` + dir + `", "admin": "unix:/run/pgmtls-proxy/admin.sock"}`}, &db)
	if got := db.Proxies[1]; got.Node != "here" || got.PolicyDir != dir || got.Admin != "unix:/run/pgmtls-proxy/admin.sock" {
		t.Errorf("got %+v", got)
	}
	p.refused(409, api.Conflict, ask{method: "POST", path: "/v1/databases/billing/proxies", token: p.admin, body: local("near", dir)})
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/databases", token: p.admin,
		body: `{"name": "third", "hosts": ["x"], "proxies": [` + local("p1", p.dir("third")) + `,` + local("p2", filepath.Join(p.dirs, "third")) + `]}`})
	p.refused(422, api.InvalidParams, ask{method: "POST", path: "/v1/agents", token: p.admin, body: api.NewEnrolment{Database: "orders", Proxy: "none"}})
	p.refused(409, api.Conflict, ask{method: "POST", path: "/v1/agents", token: p.admin, body: api.NewEnrolment{Database: "orders", Proxy: "near"}})
}

func TestTokensAndAgentsOfADeletedDatabaseEnd(t *testing.T) {
	p := newPlane(t, nil)
	db := p.database("orders")
	token := p.token(access.NewToken{Name: "one", Kind: access.Database, Database: db.ID})
	edge := p.enrol("orders")
	p.must(204, ask{method: "DELETE", path: "/v1/databases/orders", token: p.admin}, nil)
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/databases", token: token})
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/version", client: edge.client})
	var page api.Audit
	p.must(200, ask{method: "GET", path: "/v1/audit?database=" + db.ID, token: p.reader}, &page)
	var actions []string
	for _, record := range page.Records {
		actions = append(actions, record.Action)
	}
	for _, want := range []string{"database.create", "database.delete", "token.revoke", "agent.revoke"} {
		if !strings.Contains(strings.Join(actions, " "), want) {
			t.Errorf("what was deleted has the past %v, without %s", actions, want)
		}
	}
}
