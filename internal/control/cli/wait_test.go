package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// stuck has a rule that stays Authorizing, and says what is known of its proxies.
func stuck(t *testing.T, change func(*api.Acknowledgements)) *world {
	acknowledgements := behindBy(api.Waiting{Kind: api.WaitingRule, ID: ruleID, Name: "203.0.113.7/32", Status: api.Authorizing, Until: api.UntilApplied})
	if change != nil {
		change(&acknowledgements)
	}
	return newWorld(t, map[string][]canned{
		"POST " + endpoint + "/ip-rules":             {{201, rule(api.Authorizing)}},
		"GET " + endpoint + "/ip-rules/" + ruleID:    {ok(rule(api.Authorizing))},
		"GET " + shop + "/acknowledgements":          {ok(acknowledgements)},
		"DELETE " + endpoint + "/ip-rules/" + ruleID: {{202, rule(api.Deauthorizing)}},
	})
}

var createAndWait = []string{"ip-rules", "create", "shop", "--cidr", "203.0.113.7/32", "--wait", "--timeout", "10s"}

func TestWaitThatRunsOutSaysWhoIsMissingAndWhy(t *testing.T) {
	cases := []struct {
		name, want string
		change     func(*api.Acknowledgements)
	}{
		{"behind", "proxy edge-1: has generation 7 of 8, last report 3 min ago", nil},
		{"refusing", "proxy edge-1: refuses its policy: no such CA", func(a *api.Acknowledgements) {
			a.Proxies[1].Error, a.Proxies[1].ErrorKind = "no such CA", api.ErrorRefused
		}},
		{"down", "proxy edge-1: can't be reached at 127.0.0.1:9815", func(a *api.Acknowledgements) {
			a.Proxies[1].Error, a.Proxies[1].ErrorKind = "can't be reached at 127.0.0.1:9815 (connection refused). Is the proxy running?", api.ErrorUnreachable
		}},
		{"silent", "proxy edge-1: never seen; check that it, or its agent, is running", func(a *api.Acknowledgements) {
			a.Proxies[1].At = time.Time{}
		}},
		{"sessions still end", "proxy edge-1: follows generation 8; sessions that it refuses are still ending", func(a *api.Acknowledgements) {
			a.Proxies[1].Applied, a.Waiting[0].Until = 8, api.UntilInForce
		}},
		{"no proxy", "shop has no proxy that could acknowledge it: pgmtls proxies add shop NAME", func(a *api.Acknowledgements) {
			a.Proxies, a.Waiting[0].Proxies = []api.ProxyAcknowledgement{}, []string{}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := stuck(t, c.change)
			got := w.run(createAndWait...)
			if got.code != 1 || !strings.Contains(got.stderr, "timed out after 10s: 203.0.113.7/32 is still Authorizing") || !strings.Contains(got.stderr, c.want) {
				t.Errorf("exit %d:\n%s\nwithout\n%s", got.code, got.stderr, c.want)
			}
			if !strings.Contains(got.stdout, "status:      Authorizing") {
				t.Errorf("it does not show the rule: %s", got.stdout)
			}
			if waited := w.clock.Now().Sub(start); waited < 10*time.Second || waited > 11*time.Second {
				t.Errorf("it waited %v", waited)
			}
			// 10 s are not a reason for hundreds of questions.
			if len(w.asked) > 80 {
				t.Errorf("%d questions", len(w.asked))
			}
		})
	}
}

func TestWaitGoesOnWhileTheServerIsAway(t *testing.T) {
	w := stuck(t, nil)
	w.answers["GET "+endpoint+"/ip-rules/"+ruleID] = []canned{
		refuse(api.Unavailable, "the store is away"), refuse(api.RateLimit, "slowly"), ok(rule(api.Authorized)),
	}
	if got := w.run(createAndWait...); got.code != 0 || !strings.HasPrefix(got.stdout, "Authorized after 50 ms\n") {
		t.Errorf("%+v", got)
	}
}

func TestWaitEndsWhenTheRuleIsDeletedMeanwhile(t *testing.T) {
	w := stuck(t, nil)
	w.answers["GET "+endpoint+"/ip-rules/"+ruleID] = []canned{refuse(api.NotFound, "there is no such rule")}
	if got := w.run(createAndWait...); got.code != 1 || !strings.Contains(got.stderr, "there is no such rule") {
		t.Errorf("%+v", got)
	}
}

func TestInterruptedWaitSaysThatItGoesOn(t *testing.T) {
	w := stuck(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	w.clock.onAfter = cancel
	if got := w.runContext(ctx, createAndWait...); got.code != 1 || !strings.Contains(got.stderr, "interrupted; the change continues by itself") {
		t.Errorf("%+v", got)
	}
}

func TestJSONStaysJSONWhileWaiting(t *testing.T) {
	w := stuck(t, nil)
	w.answers["GET "+endpoint+"/ip-rules/"+ruleID] = []canned{ok(rule(api.Authorizing)), ok(rule(api.Authorized))}
	got := w.run(append(createAndWait, "--json")...)
	if got.code != 0 || !strings.HasPrefix(got.stdout, "{") || !strings.Contains(got.stdout, `"status": "Authorized"`) {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(got.stderr, "Authorized after 20 ms") {
		t.Errorf("%s", got.stderr)
	}
}

// A script that was interrupted runs again: what it finds under way it waits for, and what it finds done is done.
func TestCreatingTheSameAgainWaits(t *testing.T) {
	exists := refuse(api.InvalidParams, "cidr: 203.0.113.7/32 already has a rule: "+ruleID)
	mtls := func(status string) api.TLSEndpoint {
		return api.TLSEndpoint{App: "acme", Addon: "shop", Status: status, EnabledBy: "admin", ActiveIPRules: []string{}}
	}
	again := func(t *testing.T, rules ...api.Rule) *world {
		return newWorld(t, map[string][]canned{
			"POST " + endpoint + "/ip-rules":          {exists},
			"GET " + endpoint + "/ip-rules":           {ok(rules)},
			"GET " + endpoint + "/ip-rules/" + ruleID: {ok(rule(api.Authorizing)), ok(rule(api.Authorized))},
			"GET " + shop + "/acknowledgements":       {ok(behindBy(api.Waiting{Kind: api.WaitingRule, ID: ruleID}))},
		})
	}
	w := again(t, rule(api.Authorizing))
	if got := w.run(createAndWait...); got.code != 0 || !strings.HasPrefix(got.stdout, "there is a rule for 203.0.113.7/32 already\nAuthorized after") {
		t.Errorf("a rule under way: %+v", got)
	}
	if got := again(t, rule(api.Authorized)).run(createAndWait[:5]...); got.code != 1 || !strings.Contains(got.stderr, "already has a rule") {
		t.Errorf("without --wait: %+v", got)
	}
	for name, change := range map[string]func(r *api.Rule){
		"another network":     func(r *api.Rule) { r.CIDR = "203.0.113.8/32" },
		"one being deleted":   func(r *api.Rule) { r.Status = api.Deauthorizing },
		"one with an end":     func(r *api.Rule) { r.ExpiresAt = start.Add(time.Hour) },
		"another description": func(r *api.Rule) { r.Description = "somebody else's" },
	} {
		other := rule(api.Authorized)
		change(&other)
		got := again(t, other).run(append(createAndWait, "--description", rule(api.Authorized).Description)...)
		if got.code != 1 || !strings.Contains(got.stderr, "already has a rule") {
			t.Errorf("%s is not the same, and: %+v", name, got)
		}
	}

	w = newWorld(t, map[string][]canned{
		"POST " + endpoint:                  {refuse(api.Conflict, "database shop already has mutual TLS (Provisioning)")},
		"GET " + endpoint:                   {ok(mtls(api.Provisioning)), ok(mtls(api.Provisioning)), ok(mtls(api.Operational))},
		"GET " + shop + "/acknowledgements": {ok(behindBy(api.Waiting{Kind: api.WaitingTLSEndpoint}))},
	})
	if got := w.run("mtls", "create", "shop", "--wait"); got.code != 0 || !strings.HasPrefix(got.stdout, "shop already has mutual TLS\nOperational after") {
		t.Errorf("mutual TLS under way: %+v", got)
	}
	if got := w.run("mtls", "create", "shop"); got.code != 1 || !strings.Contains(got.stderr, "already has mutual TLS") {
		t.Errorf("without --wait: %+v", got)
	}
}

func TestDeletingTheSameAgainWaits(t *testing.T) {
	leaving := rule(api.Deauthorizing)
	w := newWorld(t, map[string][]canned{
		"GET " + endpoint + "/ip-rules":              {ok([]api.Rule{leaving})},
		"DELETE " + endpoint + "/ip-rules/" + ruleID: {{202, leaving}},
		"GET " + endpoint + "/ip-rules/" + ruleID:    {ok(leaving), refuse(api.NotFound, "it is gone")},
		"GET " + shop + "/acknowledgements":          {ok(behindBy(api.Waiting{Kind: api.WaitingRule, ID: ruleID}))},
	})
	if got := w.run("ip-rules", "delete", "shop", "--cidr", leaving.CIDR, "--wait"); got.code != 0 || !strings.HasPrefix(got.stdout, "gone after") {
		t.Errorf("a deletion under way: %+v", got)
	}
	if got := w.run("ip-rules", "delete", "shop", "--cidr", leaving.CIDR); got.code != 1 || !strings.Contains(got.stderr, "has no rule for") {
		t.Errorf("without --wait: %+v", got)
	}
}

// A command that an agent can't use on another machine is warned of.
func TestAgentsCommandHasTheAddressForOtherMachines(t *testing.T) {
	for address, want := range map[string]string{
		"https://pgmtls.internal:9816": "--control https://pgmtls.internal:9816 ",
		"https://localhost:9816":       "leads to this machine only",
		"https://[::1]:9816":           "leads to this machine only",
		"":                             "leads to this machine only", // the test's server is on loopback
	} {
		w := newWorld(t, map[string][]canned{"POST /v1/agents": {{201, api.Enrolment{Token: "pgmtls_4a1b2c3d_T", Database: databaseID, Proxy: "edge-1",
			ExpiresAt: start.Add(time.Hour), ControlCA: "PEM\n", ControlURL: address}}}})
		got := w.run("agents", "create", "shop", "edge-1", "--dir", t.TempDir())
		if got.code != 0 || !strings.Contains(got.stdout, want) || strings.Contains(got.stdout, "this machine only") != strings.Contains(want, "only") {
			t.Errorf("%q: %+v", address, got)
		}
	}
}
