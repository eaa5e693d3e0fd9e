package control

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/etcdtest"
	"pgmtls-proxy/internal/testkit/eventually"
)

// newDaemons starts two daemons side by side on one cluster. The first one has the token.
func newDaemons(t *testing.T, members []*etcdtest.Node) [2]*plane {
	t.Helper()
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, "http://"+m.Client)
	}
	key := make([]byte, 32)
	rand.Read(key)
	master := filepath.Join(t.TempDir(), "master.key")
	writeFile(t, master, base64.StdEncoding.EncodeToString(key)+"\n")
	settings := func(node string) map[string]any {
		return map[string]any{"node": node, "master_key_file": master, "store": map[string]any{"endpoints": endpoints}}
	}
	return [2]*plane{configured(t, settings("one")), configured(t, settings("two"))}
}

const leads = "elected leader; running renewals"

// Two daemons work as one. When one is killed, the other goes on and leads, and agents and clients go to it.
func TestOtherDaemonGoesOn(t *testing.T) {
	t.Parallel()
	members := etcdtest.Cluster(t)
	daemons := newDaemons(t, members)
	token := daemons[0].admin(t)
	var asks [2]*web
	for i, d := range daemons {
		asks[i] = d.web(t, token)
	}
	eventually.OK(t, patience, func() error {
		if n := len(daemons[0].log.having(leads)) + len(daemons[1].log.having(leads)); n != 1 {
			return errNotYet(n)
		}
		return nil
	})
	first, second := 0, 1 // who leads, and who does not
	if daemons[1].log.find(leads) != nil {
		first, second = 1, 0
	}

	// One proxy beside the daemon that goes on, one whose agent is connected to the one that will be killed.
	beside, edge := newFront(t, daemons[second].policyDir(t, "shop")), newFront(t, filepath.Join(privateDir(t), "policy"))
	relay := newRelay(t, daemons[first])
	asks[second].gets(t, http.StatusCreated, "POST /v1/databases", fmt.Sprintf(`{"name": "shop", "hosts": ["localhost"], "proxies": [{"name": "beside", "policy_dir": %q, "admin": %q}]}`,
		beside.PolicyDir, beside.Admin), nil)
	daemons[0].do(t, "databases") // by its own client.yaml
	agent := newHelper(t, daemons[0], relay, struct{ database, proxy string }{"shop", "edge"}, edge)
	asks[first].gets(t, http.StatusCreated, "POST "+endpointPath, "", nil)
	asks[second].polled(t, endpointPath, "status", "Operational")
	open := asks[first].rule(t, "127.0.0.0/8", "Authorized")
	live := daemons[0].download(t, edge, "shop", "").converse(t)
	asks[second].rule(t, "198.51.100.1/32", "Authorized")
	agent.waitFor(t, "enrolled")
	var effect struct {
		Ended int `json:"sessions_ended"`
	}
	asks[first].gets(t, http.StatusOK, "DELETE "+open+"?dry_run=true", "", &effect)
	if effect.Ended != 1 {
		t.Errorf("a dry run of proxies that are another daemon's and an agent's says %+v", effect)
	}

	relay.cut()
	daemons[first].kill(t)
	killed := time.Now()
	relay.leadTo(t, daemons[second]) // a balancer's work
	other := asks[second]
	other.rule(t, "198.51.100.2/32", "Authorized")
	t.Logf("the first change after the kill is authorized after %s", time.Since(killed))
	daemons[second].waitFor(t, leads)
	t.Logf("the other daemon leads after %s", time.Since(killed))
	live.goesOn(t)

	// One of three members is killed, and later the daemon comes back.
	members[0].Kill()
	other.rule(t, "198.51.100.3/32", "Authorized")
	daemons[first].start(t)
	again := daemons[first].web(t, token)
	again.rule(t, "198.51.100.4/32", "Authorized")
	if n := len(daemons[first].log.having(leads)); n != 0 {
		t.Error("the daemon that came back has taken the leadership")
	}
	again.caughtUp(t)
	live.goesOn(t)
	live.leave(t)
	a, b := readFile(t, filepath.Join(beside.PolicyDir, "policy.yaml")), readFile(t, filepath.Join(edge.PolicyDir, "policy.yaml"))
	if a != b || strings.Count(a, "198.51.100.") != 4 {
		t.Errorf("the proxies have\n%s\nand\n%s", a, b)
	}
}
