package informer

import (
	"context"
	"errors"
	"testing"

	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/registry/registrytest"
)

// world is a registry on a real store.
type world struct {
	registrytest.World
	t *testing.T
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{registrytest.New(t), t}
}

func (w *world) database(name string) registry.Database {
	w.t.Helper()
	db, err := w.CreateDatabase(w.t.Context(), registrytest.Admin, registry.NewDatabase{Name: name, Hosts: []string{name + ".example.com"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return db
}

func (w *world) delete(name string) {
	w.t.Helper()
	if err := w.DeleteDatabase(w.t.Context(), registrytest.Admin, name); err != nil {
		w.t.Fatal(err)
	}
}

func TestFollowersSeeEveryDatabaseAndEveryChange(t *testing.T) {
	w := newWorld(t)
	orders := w.database("orders")
	ctx, cancel := context.WithCancel(t.Context())
	hub := New(w.Docs, w.Log)
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the hub ended with %v", err)
		}
	}()
	step := 0
	for change := range hub.FollowAll(ctx) {
		switch step++; step {
		case 1:
			if change.Database.Name != "orders" || change.Database.MTLS != nil {
				t.Fatalf("got %+v first", change)
			}
			if _, err := w.EnableMTLS(ctx, registrytest.Admin, orders.ID); err != nil {
				t.Fatal(err)
			}
		case 2:
			if change.Database.Name != "orders" || change.Database.MTLS == nil {
				t.Fatalf("got %+v for new mutual TLS", change)
			}
			w.database("other")
		case 3:
			if change.Database.Name != "other" {
				t.Fatalf("got %+v for a new database", change)
			}
			w.delete("other")
		case 4:
			if !change.Deleted {
				t.Fatalf("got %+v for a deleted database", change)
			}
			cancel()
		}
	}
	if step != 4 {
		t.Errorf("%d changes were seen", step)
	}
	if len(hub.followers) != 0 {
		t.Error("followers are left")
	}
}

// As after a compaction, or when the store was away: the new list says what is gone.
func TestDatabaseThatWasDeletedWhileNobodyWatchedIsGone(t *testing.T) {
	w := newWorld(t)
	gone, stays := w.database("gone"), w.database("stays")
	hub := New(w.Docs, w.Log)
	watch := func(until func(Change) bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- hub.Run(ctx) }()
		for change := range hub.FollowAll(ctx) {
			if until(change) {
				break
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the hub ended with %v", err)
		}
	}
	watch(func(change Change) bool { return change.Database.ID == gone.ID })
	w.delete("gone")
	watch(func(change Change) bool { return change.Database.ID == gone.ID && change.Deleted })
	if len(hub.databases) != 1 || hub.databases[stays.ID].Name != "stays" {
		t.Errorf("the hub has %+v", hub.databases)
	}
}

// Nobody can follow a hub that has not read the list: half of it would look like all of it.
func TestFollowerOfAHubThatNeverRanEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.database("orders")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for change := range New(w.Docs, w.Log).FollowAll(ctx) {
		t.Errorf("got %+v", change)
	}
}
