package registry

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

func beside(name, node, dir string) NewProxy {
	return NewProxy{Name: name, Node: node, PolicyDir: dir, Admin: "127.0.0.1:9815"}
}

// local registers a database with one proxy beside the daemon "here".
func (w *world) local(name, dir string) error {
	_, err := w.CreateDatabase(w.ctx, admin, NewDatabase{Name: name, Hosts: []string{"a.example.com"}, Proxies: []NewProxy{beside("edge", "here", dir)}})
	return err
}

// Two registries stand for two daemons. Half of those who ask register a database, the others add a proxy to one.
func TestOfManyWhoAskForOneDirectoryAtTheSameMomentOneGetsIt(t *testing.T) {
	w := newWorld(t)
	other := w.another(w.docs)
	for n := range 8 {
		w.database(fmt.Sprintf("there-%d", n))
	}
	start := make(chan struct{})
	var group sync.WaitGroup
	var mu sync.Mutex
	made, refused := 0, 0
	for n := range 16 {
		group.Go(func() {
			r := []*Registry{w.Registry, other}[n/2%2]
			<-start
			var err error
			if n%2 == 0 {
				_, err = r.CreateDatabase(w.ctx, admin, NewDatabase{Name: fmt.Sprintf("new-%d", n), Hosts: []string{"a.example.com"}, Proxies: []NewProxy{beside("edge", "here", "/policies/one")}})
			} else {
				_, err = r.AddProxy(w.ctx, admin, fmt.Sprintf("there-%d", n/2), beside("near", "here", "/policies/one"))
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case problem.Is(err, problem.Conflict):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	close(start)
	group.Wait()
	if made != 1 || refused != 15 {
		t.Errorf("%d got the directory, %d were refused", made, refused)
	}
	having := 0
	databases, err := w.Databases(w.ctx)
	w.done(databases, err)
	for _, db := range databases {
		for _, p := range db.Proxies {
			if p.PolicyDir == "/policies/one" {
				having++
			}
		}
	}
	if having != 1 {
		t.Errorf("%d proxies have the directory", having)
	}
}

func TestDirectoryIsTakenHoweverItIsWrittenAndOnlyOnItsNode(t *testing.T) {
	w := newWorld(t)
	w.done(nil, w.local("orders", "/policies/orders"))
	w.database("other")
	for _, dir := range []string{"/policies/orders", "/policies/orders/", "/policies//orders", "/policies/./x/../orders"} {
		_, err := w.AddProxy(w.ctx, admin, "other", beside("near", "here", dir))
		refused(t, err, problem.Conflict, "proxy edge of database orders already uses this directory")
		_, err = w.AddProxy(w.ctx, admin, "orders", beside("second", "here", dir))
		refused(t, err, problem.Conflict, "proxy edge of database orders already uses this directory")
	}
	_, err := w.AddProxy(w.ctx, admin, "other", beside("near", "here", "policies/orders"))
	refused(t, err, problem.InvalidParams, "absolute path")
	w.done(w.AddProxy(w.ctx, admin, "other", beside("near", "there", "/policies/orders")))
	// A node's name may have slashes, and the whole is still no other's.
	w.done(w.AddProxy(w.ctx, admin, "other", beside("slash", "here/policies", "/orders")))
	_, err = w.CreateDatabase(w.ctx, admin, NewDatabase{Name: "twice", Hosts: []string{"a.example.com"},
		Proxies: []NewProxy{beside("p1", "here", "/policies/twice"), beside("p2", "here", "/policies/twice/")}})
	refused(t, err, problem.InvalidParams, "two proxies have the policy_dir")
}

func TestDirectoryIsFreeWhenItsProxyIsRemovedOrItsDatabaseDeleted(t *testing.T) {
	w := newWorld(t)
	w.done(nil, w.local("orders", "/policies/one"))
	refused(t, w.local("second", "/policies/one"), problem.Conflict, "orders")
	w.done(w.RemoveProxy(w.ctx, admin, "orders", "edge"))
	w.done(nil, w.local("second", "/policies/one"))
	w.done(nil, w.DeleteDatabase(w.ctx, admin, "second"))
	w.done(nil, w.local("third", "/policies/one"))
	keys, _, err := w.docs.List(w.ctx, keyDirs)
	if w.done(keys, err); len(keys) != 1 {
		t.Errorf("%d directories are claimed, want that of the third database", len(keys))
	}
}

// older makes the store what a release before this one left: proxies without keys for their directories.
func (w *world) older() {
	w.t.Helper()
	w.done(w.docs.Commit(w.ctx, new(store.Tx).DeletePrefix(keyDirs)))
}

func TestProxiesOfAnOlderReleaseKeepTheirDirectories(t *testing.T) {
	w := newWorld(t)
	w.done(nil, w.local("orders", "/policies/one"))
	w.older()
	w.done(nil, w.ClaimDirs(w.ctx))
	refused(t, w.local("second", "/policies/one"), problem.Conflict, "orders")
	w.older()
	w.due() // what an older daemon registers beside this one is found later
	refused(t, w.local("second", "/policies/one"), problem.Conflict, "orders")
	w.done(nil, w.ClaimDirs(w.ctx))
}

// The older release let two databases have one directory when they asked at the same moment.
func TestDirectoryThatTwoProxiesHaveIsNamedUntilOneIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.done(nil, w.local("orders", "/policies/one"))
	w.older()
	w.done(nil, w.local("second", "/policies/one"))
	err := w.ClaimDirs(w.ctx)
	if err == nil || !strings.Contains(err.Error(), "proxy edge of database orders") || !strings.Contains(err.Error(), "second") {
		t.Errorf("got %v", err)
	}
	// Who removes the one without the key does not free the other's.
	w.done(w.RemoveProxy(w.ctx, admin, "orders", "edge"))
	refused(t, w.local("third", "/policies/one"), problem.Conflict, "second")
	w.done(nil, w.ClaimDirs(w.ctx))
}

// An older daemon beside this one removes a proxy or a database, and leaves the key.
func TestKeyWhoseOwnerIsGoneHoldsNobodyUp(t *testing.T) {
	w := newWorld(t)
	stale := func(owner dirOwner) {
		t.Helper()
		tx := new(store.Tx)
		w.done(nil, docstore.Put(tx, dirKey(Proxy{Node: "here", PolicyDir: "/policies/one"}), owner))
		w.done(w.docs.Commit(w.ctx, tx))
	}
	there := w.database("there")
	stale(dirOwner{newID(), "edge"})
	w.done(nil, w.local("first", "/policies/one"))
	w.done(w.RemoveProxy(w.ctx, admin, "first", "edge"))
	stale(dirOwner{there.ID, "gone"})
	w.done(nil, w.local("second", "/policies/one"))
	w.done(w.RemoveProxy(w.ctx, admin, "second", "edge"))
	stale(dirOwner{there.ID, "edge"}) // it is there, and an agent delivers to it
	w.done(nil, w.local("third", "/policies/one"))
}

func TestKeyThatCanNotBeReadIsNoPermission(t *testing.T) {
	w := newWorld(t)
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Put(dirKey(Proxy{Node: "here", PolicyDir: "/policies/one"}), []byte("{"))))
	if err := w.local("orders", "/policies/one"); err == nil {
		t.Error("a directory was given away that may be another's")
	}
	if _, err := w.Database(w.ctx, "orders"); !problem.Is(err, problem.NotFound) {
		t.Errorf("the database is there: %v", err)
	}
	if err := w.ClaimDirs(w.ctx); err == nil {
		t.Error("keys that can't be read are no error")
	}
	w.done(w.AddProxy(w.ctx, admin, w.database("other").ID, beside("near", "here", "/policies/two")))
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Put(dirKey(Proxy{Node: "here", PolicyDir: "/policies/two"}), []byte("{"))))
	if _, err := w.RemoveProxy(w.ctx, admin, "other", "near"); err == nil || errors.As(err, new(*problem.Error)) {
		t.Errorf("got %v", err)
	}
}
