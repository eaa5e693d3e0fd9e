package control

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// edge is a database whose only proxy is on another machine, so to say: with an agent behind a relay.
type edge struct {
	*plane
	*web  // admin
	relay *relay
	front *front
	agent *helper
	open  string // path of the rule that lets everybody here in
}

// newEdge has mutual TLS and a rule in force.
func newEdge(t *testing.T) *edge {
	e := &edge{plane: configured(t, nil)}
	e.web = e.plane.web(t, e.admin(t))
	e.relay = newRelay(t, e.plane)
	e.front = newFront(t, filepath.Join(privateDir(t), "policy"))
	e.gets(t, http.StatusCreated, "POST /v1/databases", `{"name": "shop", "hosts": ["localhost"]}`, nil)
	e.agent = newHelper(t, e.plane, e.relay, struct{ database, proxy string }{"shop", "edge"}, e.front)
	e.gets(t, http.StatusCreated, "POST "+endpointPath, "", nil)
	e.polled(t, endpointPath, "status", "Operational")
	e.open = e.rule(t, "127.0.0.0/8", "Authorized")
	return e
}

// privateDir is a directory that nobody else may write to, with the directory policy in it.
func privateDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "policy"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rule creates a rule, and waits for a status; "" does not wait. It gives the path of the rule.
func (w *web) rule(t testing.TB, cidr, status string) string {
	t.Helper()
	var rule fields
	w.gets(t, http.StatusCreated, "POST "+rulesPath, fmt.Sprintf(`{"cidr": %q}`, cidr), &rule)
	path := rulesPath + "/" + rule.text("id")
	if status != "" {
		w.polled(t, path, "status", status)
	}
	return path
}

// acknowledgements are what a database waits for.
type acknowledgements struct {
	Generation int64
	InForce    bool `json:"in_force"`
	Proxies    []struct {
		Proxy, Error, Drift string
		Applied             int64
	}
	Waiting []struct {
		Kind, ID, Status string
		Proxies          []string
	}
}

func (w *web) acknowledged(t testing.TB) (a acknowledgements) {
	t.Helper()
	w.gets(t, http.StatusOK, "GET /v1/databases/shop/acknowledgements", "", &a)
	return a
}

// caughtUp waits until every proxy of shop has the newest generation in force, and gives it.
func (w *web) caughtUp(t testing.TB) int64 {
	t.Helper()
	var a acknowledgements
	eventually.OK(t, patience, func() error {
		if a = w.acknowledged(t); !a.InForce || len(a.Waiting) > 0 {
			return errNotYet(a)
		}
		return nil
	})
	return a.Generation
}

func TestAgentThatWasCutOffCatchesUp(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	v := e.download(t, e.front, "shop", "")
	live := v.converse(t)
	var effect struct {
		Ended   int `json:"sessions_ended"`
		Proxies []struct{ Proxy, Error string }
	}
	e.gets(t, http.StatusOK, "DELETE "+e.open+"?dry_run=true", "", &effect)
	if effect.Ended != 1 || len(effect.Proxies) != 1 || effect.Proxies[0].Error != "" {
		t.Errorf("a dry run says %+v, want one session at edge", effect)
	}

	e.relay.cut()
	gone := e.rule(t, "198.51.100.1/32", "")
	for i := range 5 {
		e.rule(t, fmt.Sprintf("198.51.100.%d/32", 10+i), "")
	}
	e.gets(t, http.StatusAccepted, "DELETE "+gone, "", nil)
	if a := e.acknowledged(t); a.InForce || len(a.Waiting) != 6 || strings.Join(a.Waiting[0].Proxies, " ") != "edge" {
		t.Errorf("got %+v, want six changes that wait for edge", a)
	}
	live.goesOn(t) // the proxy needs nobody
	v.comesIn(t)

	// Neither the agent nor the proxy remembers anything but what is on disk.
	e.agent.kill(t)
	e.front.kill(t)
	e.front.start(t)
	v.comesIn(t)
	e.agent.start(t)

	e.relay.leadTo(t, e.plane)
	newest := e.caughtUp(t)
	s, err := e.front.status()
	if err != nil || s.Policy.Generation != fmt.Sprint(newest) || s.Reload.Error != "" {
		t.Errorf("the proxy says %+v, %v; want generation %d", s, err, newest)
	}
	e.front.checked(t)
	v.comesIn(t)
	if text := readFile(t, filepath.Join(e.front.PolicyDir, "policy.yaml")); strings.Contains(text, "198.51.100.1/32") {
		t.Error("a rule that was deleted meanwhile is in the policy")
	}
}

// The stream breaks in the middle of many changes, again and again.
func TestAgentOnABadLineMissesNothing(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for i := range 12 {
		e.rule(t, fmt.Sprintf("198.51.100.%d/32", i), "")
		if i%3 == 0 {
			e.relay.cut()
			e.relay.leadTo(t, e.plane)
		}
	}
	e.caughtUp(t)
	text := readFile(t, filepath.Join(e.front.PolicyDir, "policy.yaml"))
	if n := strings.Count(text, "198.51.100."); n != 12 {
		t.Errorf("the policy has %d of 12 rules", n)
	}
	e.front.checked(t)
}

// Somebody lets himself in past the control plane: it is told, and put right.
func TestEditOfAPolicyIsToldAndPutRight(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	path := filepath.Join(e.front.PolicyDir, "policy.yaml")
	before := readFile(t, path)
	edited := strings.Replace(before, `cidr: "127.0.0.0/8"`, `cidr: "0.0.0.0/0"`, 1)
	if edited == before {
		t.Fatalf("there is no rule to edit in\n%s", before)
	}
	writeFile(t, path, edited)
	eventually.OK(t, patience, func() error {
		if text := readFile(t, path); text != before {
			return errNotYet("the edited policy")
		}
		return nil
	})
	eventually.OK(t, patience, func() error {
		var trail struct{ Records []fields }
		e.gets(t, http.StatusOK, "GET /v1/audit?action=policy.drift", "", &trail)
		for _, record := range trail.Records {
			if record.text("object") == "edge" {
				return nil
			}
		}
		return errNotYet(trail)
	})
	e.caughtUp(t)
	eventually.OK(t, patience, func() error {
		if a := e.acknowledged(t); a.Proxies[0].Drift != "" {
			return errNotYet(a)
		}
		return nil
	})
	e.download(t, e.front, "shop", "").comesIn(t)
}

// A rule runs out, and its sessions end, although nobody is there to say so.
func TestRuleRunsOutWithoutTheControlPlane(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	v := e.download(t, e.front, "shop", "")
	began := time.Now()
	e.gets(t, http.StatusAccepted, "DELETE "+e.open, "", nil)
	e.polled(t, e.open, "status", "404")
	pace := time.Since(began) // of this machine, for a change that is awaited
	end := time.Now().Add(8*time.Second + 5*pace).UTC().Truncate(time.Second)
	e.do(t, "ip-rules", "create", "shop", "--cidr", "127.0.0.0/8", "--expires", end.Format(time.RFC3339), "--wait")
	live := v.converse(t)
	e.agent.kill(t)
	e.plane.kill(t)
	e.front.waitFor(t, "connection") // the session's only event, when it ends
	if early := time.Until(end); early > 0 {
		t.Errorf("the session ended %s before the rule did", early)
	}
	live.wasEnded(t, "IP rule")
	v.staysOut(t, "")
}

// A revoked agent is told so and ends. Its proxy goes on with what it has, until another agent is enrolled.
func TestRevokedAgentEnds(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	v := e.download(t, e.front, "shop", "")
	var agents []struct{ ID string }
	e.read(t, &agents, "agents")
	if len(agents) != 1 {
		t.Fatalf("got %+v", agents)
	}
	e.do(t, "agents", "revoke", agents[0].ID)
	if code := e.agent.wait(t); code != 1 {
		t.Errorf("the agent ends with %d", code)
	}
	v.comesIn(t)
	path := e.rule(t, "198.51.100.1/32", "")
	// The same token again is of no use, nor is what the agent had kept.
	e.agent.start(t)
	if code := e.agent.wait(t); code != 1 {
		t.Errorf("the agent ends with %d", code)
	}
	dir := filepath.Dir(e.agent.State)
	e.do(t, "agents", "create", "shop", "edge", "--dir", dir, "--force")
	e.agent.start(t)
	e.polled(t, path, "status", "Authorized")
}
