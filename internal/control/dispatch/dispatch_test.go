package dispatch

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/registry/registrytest"
	"pgmtls-proxy/internal/testkit/eventually"
)

// node is a daemon's dispatcher on a real store. Its proxies do not run: what is to be seen here is what lies in their
// directories, and what the registry is told.
type node struct {
	registrytest.World
	t          *testing.T
	ctx        context.Context
	hub        *informer.Hub
	dispatcher *Dispatcher
	roots      string
}

// patience is how long a test waits for what should happen at once. Nothing waits it out when all is well.
const patience = time.Minute

func newNode(t *testing.T) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	w := registrytest.New(t)
	n := &node{World: w, t: t, ctx: ctx, roots: t.TempDir(), hub: informer.New(w.Docs, w.Log)}
	n.dispatcher = &Dispatcher{Registry: w.Registry, Hub: n.hub, Queries: w.Queries, Node: "here", Roots: []string{n.roots}, Log: w.Log}
	ended := make(chan error, 2)
	go func() { ended <- n.hub.Run(ctx) }()
	go func() { ended <- n.dispatcher.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
		}
	})
	return n
}

// database has mutual TLS, and one proxy.
func (n *node) database(proxy registry.NewProxy) registry.Database {
	n.t.Helper()
	_, err := n.CreateDatabase(n.ctx, registrytest.Admin, registry.NewDatabase{Name: "orders", Hosts: []string{"localhost"}, Proxies: []registry.NewProxy{proxy}})
	if err != nil {
		n.t.Fatal(err)
	}
	db, err := n.EnableMTLS(n.ctx, registrytest.Admin, "orders")
	if err != nil {
		n.t.Fatal(err)
	}
	return db
}

// until gives the database as soon as it is as it should be.
func (n *node) until(id, what string, good func(registry.Database) bool) registry.Database {
	n.t.Helper()
	var last registry.Database
	for change := range n.hub.FollowAll(n.ctx) {
		if change.Database.ID != id {
			continue
		}
		if last = change.Database; !change.Deleted && good(last) {
			return last
		}
	}
	n.t.Fatalf("never %s; at last %+v", what, last)
	return last
}

// lies gives the generation in a directory; 0: none.
func lies(dir string) int64 {
	text, err := os.ReadFile(filepath.Join(dir, api.PolicyFile))
	if err != nil {
		return 0
	}
	_, generation, _ := policyformat.ParseHeader(text)
	return generation
}

const nobody = "127.0.0.1:1" // where no proxy listens

func told(p registry.Proxy, text string) bool { return strings.Contains(p.Acknowledged.Error, text) }

func TestProxyOfThisNodeGetsEachPolicy(t *testing.T) {
	n := newNode(t)
	dir := filepath.Join(n.roots, "orders")
	db := n.database(registry.NewProxy{Name: "edge", Node: "here", PolicyDir: dir, Admin: nobody})
	n.until(db.ID, "told that the proxy is down", func(db registry.Database) bool { return told(db.Proxies[0], "connection refused") })
	eventually.True(n.t, patience, "a policy in the directory", func() bool { return lies(dir) == 1 })
	if _, err := n.CreateRule(n.ctx, registrytest.Admin, "orders", registry.NewRule{CIDR: "192.0.2.0/24"}); err != nil {
		t.Fatal(err)
	}
	eventually.True(n.t, patience, "the rule's generation in the directory", func() bool { return lies(dir) == 2 })

	// The proxy moves: what its route delivered stays, and the new directory is served.
	moved := filepath.Join(n.roots, "moved")
	if _, err := n.RemoveProxy(n.ctx, registrytest.Admin, "orders", "edge"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddProxy(n.ctx, registrytest.Admin, "orders", registry.NewProxy{Name: "edge", Node: "here", PolicyDir: moved, Admin: nobody}); err != nil {
		t.Fatal(err)
	}
	eventually.True(n.t, patience, "a policy in the new directory", func() bool { return lies(moved) == 2 })
	if lies(dir) != 2 {
		t.Error("what was delivered before is gone")
	}
}

// A proxy whose answer never comes keeps its route busy for seconds. The routes of others must not wait for that, nor may
// the one that takes its directory over begin before it has ended.
func TestRouteThatIsSlowToEndHoldsUpNobodyElse(t *testing.T) {
	n := newNode(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	dir := filepath.Join(n.roots, "orders")
	db := n.database(registry.NewProxy{Name: "edge", Node: "here", PolicyDir: dir, Admin: mute.Addr().String()})
	eventually.True(n.t, patience, "a policy in the directory", func() bool { return lies(dir) == 1 })
	n.dispatcher.mu.Lock()
	slow := n.dispatcher.routes[place{db.ID, "edge"}]
	n.dispatcher.mu.Unlock()
	blocked, free := make(chan struct{}), make(chan struct{})
	n.dispatcher.mu.Lock()
	stop := slow.stop
	slow.stop = func() { close(blocked); go func() { <-free; stop() }() } // it ends when the test says so
	n.dispatcher.mu.Unlock()

	if _, err := n.RemoveProxy(n.ctx, registrytest.Admin, "orders", "edge"); err != nil {
		t.Fatal(err)
	}
	<-blocked
	other := filepath.Join(n.roots, "other")
	for name, at := range map[string]string{"taker": dir, "other": other} {
		if _, err := n.CreateDatabase(n.ctx, registrytest.Admin, registry.NewDatabase{Name: name, Hosts: []string{"localhost"},
			Proxies: []registry.NewProxy{{Name: "edge", Node: "here", PolicyDir: at, Admin: nobody}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.EnableMTLS(n.ctx, registrytest.Admin, name); err != nil {
			t.Fatal(err)
		}
	}
	eventually.True(n.t, patience, "a policy of the other database", func() bool { return lies(other) == 1 })
	owner := func() string {
		text, err := os.ReadFile(filepath.Join(dir, api.PolicyFile))
		if err != nil {
			t.Fatal(err)
		}
		id, _, _ := policyformat.ParseHeader(text)
		return id
	}
	if got := owner(); got != db.ID {
		t.Errorf("the directory is of %s while the route of %s goes on", got, db.ID)
	}
	close(free)
	<-slow.done
	taker, err := n.Database(n.ctx, "taker")
	if err != nil {
		t.Fatal(err)
	}
	n.until(taker.ID, "told that the directory was another's", func(db registry.Database) bool { return told(db.Proxies[0], "belongs to another writer") })
}

func TestProxyOfAnotherNodeIsNotTouched(t *testing.T) {
	n := newNode(t)
	dir, own := filepath.Join(n.roots, "theirs"), filepath.Join(n.roots, "ours")
	n.database(registry.NewProxy{Name: "theirs", Node: "there", PolicyDir: dir, Admin: nobody})
	if _, err := n.AddProxy(n.ctx, registrytest.Admin, "orders", registry.NewProxy{Name: "ours", Node: "here", PolicyDir: own, Admin: nobody}); err != nil {
		t.Fatal(err)
	}
	eventually.True(n.t, patience, "a policy in our directory", func() bool { return lies(own) == 1 })
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory of another node's proxy was made")
	}
}

func TestWhatCanNotBeDeliveredIsToldToTheRegistry(t *testing.T) {
	n := newNode(t)
	outside := filepath.Join(t.TempDir(), "policy")
	db := n.database(registry.NewProxy{Name: "edge", Node: "here", PolicyDir: outside, Admin: nobody})
	n.until(db.ID, "told that the directory is no good", func(db registry.Database) bool { return told(db.Proxies[0], "policy_roots") })
	if _, err := os.Stat(outside); err == nil {
		t.Error("a directory outside of the roots was made")
	}
	if _, err := n.AddProxy(n.ctx, registrytest.Admin, "orders", registry.NewProxy{Name: "far", Node: "here", PolicyDir: filepath.Join(n.roots, "far"), Admin: "192.0.2.1:9815"}); err != nil {
		t.Fatal(err)
	}
	n.until(db.ID, "told that the address is no good", func(db registry.Database) bool {
		return len(db.Proxies) == 2 && told(db.Proxies[1], "not on this machine alone")
	})
}

func TestQuestionsAboutAProxyGoToItsRoute(t *testing.T) {
	n := newNode(t)
	dir := filepath.Join(n.roots, "orders")
	db := n.database(registry.NewProxy{Name: "edge", Node: "here", PolicyDir: dir, Admin: nobody})
	eventually.True(n.t, patience, "a policy in the directory", func() bool { return lies(dir) == 1 })
	rule, err := n.CreateRule(n.ctx, registrytest.Admin, "orders", registry.NewRule{CIDR: "192.0.2.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := n.WithoutRule(n.ctx, "orders", rule.ID)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := n.Queries.Ask(n.ctx, db.ID, "edge", proxyquery.Question{Policy: policy})
	if err != nil || !strings.Contains(answer.Error, "connection refused") {
		t.Errorf("got %+v, %v", answer, err)
	}
	answer, err = n.Queries.Ask(n.ctx, db.ID, "edge", proxyquery.Question{Kind: api.AskReport})
	if err != nil || answer.Kind != api.AskReport || answer.Report != nil || !strings.Contains(answer.Error, "connection refused") {
		t.Errorf("got %+v, %v", answer, err)
	}
}
