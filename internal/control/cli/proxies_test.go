package cli

import (
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
)

func TestProxyIsSaidToBeDownOnlyWhenItIs(t *testing.T) {
	for kind, want := range map[string]struct{ state, problem string }{
		api.ErrorUnreachable:   {"unreachable", "TEXT"}, // which is "can't be reached at …"
		api.ErrorUndeliverable: {"undeliverable", "can't be given its policy: TEXT"},
		api.ErrorRefused:       {"refused", "refuses its policy: TEXT"},
		"":                     {"failing", "does not follow its policy: TEXT"}, // an older agent
	} {
		proxy := api.ProxyAcknowledgement{Proxy: "edge", Error: "TEXT", ErrorKind: kind, InForce: 3}
		if state, problem := stateOf(proxy, 3), problemOf(proxy); state != want.state || problem != want.problem {
			t.Errorf("%q: edge is %q and %q, want %q and %q", kind, state, problem, want.state, want.problem)
		}
		if got, want := generation(api.ProxyAcknowledgement{ErrorKind: kind}, 0), map[bool]string{true: "?", false: "0"}[kind == api.ErrorUnreachable]; got != want {
			t.Errorf("%q: it follows %q, want %q", kind, got, want)
		}
	}
}

// An agent that hangs, or a daemon that is down, reports nothing, not even that.
func TestProxyOfWhichNothingIsHeardIsPointedOut(t *testing.T) {
	start := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	db := api.Database{Proxies: []api.Proxy{{Name: "edge"}, {Name: "local", PolicyDir: "/policies", Node: "db1"}}}
	for name, row := range map[string]struct {
		proxy api.ProxyAcknowledgement
		want  string
	}{
		"all is well":           {api.ProxyAcknowledgement{Proxy: "edge", Applied: 8, InForce: 8, At: start.Add(-time.Hour)}, ""},
		"on its way":            {api.ProxyAcknowledgement{Proxy: "edge", Applied: 7, At: start.Add(-20 * time.Second)}, ""},
		"an agent that hangs":   {api.ProxyAcknowledgement{Proxy: "edge", Applied: 7, At: start.Add(-50 * time.Second)}, "was last heard from 50.0 s ago. Is its agent running, and connected?"},
		"no agent":              {api.ProxyAcknowledgement{Proxy: "edge"}, "was never heard from. Is its agent running, and connected?"},
		"another daemon's":      {api.ProxyAcknowledgement{Proxy: "local", Applied: 7, At: start.Add(-time.Hour)}, "was last heard from 1 h ago. Is the daemon db1 running?"},
		"sessions still ending": {api.ProxyAcknowledgement{Proxy: "edge", Applied: 8, InForce: 7, At: start.Add(-time.Hour)}, ""},
	} {
		if got := silence(db, row.proxy, 8, start); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}
