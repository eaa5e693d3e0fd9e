package cli_test

import (
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/api"
)

func TestShellsAreToldNamesAndIDs(t *testing.T) {
	answers := func() map[string][]canned {
		return map[string][]canned{
			"GET /v1/databases": {ok([]api.Database{database()})}, "GET " + shop: {ok(database())},
			"GET " + endpoint + "/ip-rules":     {ok([]api.Rule{rule(api.Authorized)})},
			"GET " + endpoint + "/certificates": {ok([]api.Certificate{certificate(api.Disabled), certificate(api.Ready)})},
			"GET /v1/spaces":                    {ok([]string{"default"})},
			"GET /v1/spaces/default/ca":         {ok([]api.Authority{spaceCA(api.ActiveCA), spaceCA(api.RetiringCA)})},
			"GET /v1/tokens":                    {ok([]api.Token{{ID: "0a1b", Name: "admin", Scope: api.ScopeAll, CreatedAt: start}})},
		}
	}
	cases := []struct{ line, want string }{
		{"mtls status ", "shop\tspace default"},
		{"ip-rules ", "create\t"},
		{"ip-rules ", "shop\tspace default"},
		{"ip-rules delete shop --id ", ruleID + "\t203.0.113.7/32 My office"},
		{"certificates download shop --id ", certID + "\treporting ready"},
		{"certificates download shop --format ", "pk8"},
		{"proxies remove shop ", "edge-1"},
		{"ca retire ", "default"},
		{"ca retire default --id ", "5e:retiring\tCN=default CA"},
		{"tokens revoke ", "0a1b\tadmin"},
		{"tokens create x --database ", "shop"},
	}
	for _, c := range cases {
		t.Run(c.line, func(t *testing.T) {
			w := newWorld(t, answers())
			args := strings.Split(c.line, " ")
			got := w.run(append([]string{"__complete"}, args...)...)
			if !strings.Contains("\n"+got.stdout, "\n"+c.want) {
				t.Errorf("%q is not in %q", c.want, got.stdout)
			}
			if strings.Contains(c.line, "certificates") && strings.Count(got.stdout, certID) > 1 {
				t.Errorf("a disabled certificate is offered: %q", got.stdout)
			}
		})
	}
}

func TestCompletionIsSilentWithoutAServer(t *testing.T) {
	w := newWorld(t, nil)
	w.server.Close()
	got := w.run("__complete", "mtls", "status", "")
	if got.code != 0 || strings.Contains(got.stdout, "refused") || !strings.HasPrefix(got.stdout, ":4\n") {
		t.Errorf("%+v", got)
	}
}
