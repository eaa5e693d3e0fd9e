package cli

import (
	"testing"

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
