package docstore_test

import (
	"errors"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/store"
)

type document struct {
	Name string `json:"name"`
}

func TestDocumentComesBackWithTheRevisionThatGuardsIt(t *testing.T) {
	docs := docstoretest.Open(t)
	put := func(revision int64, name string) error {
		t.Helper()
		tx := new(store.Tx).If("documents/a", revision)
		if err := docstore.Put(tx, "documents/a", document{name}); err != nil {
			t.Fatal(err)
		}
		_, err := docs.Commit(t.Context(), tx)
		return err
	}
	if _, _, err := docstore.Get[document](t.Context(), docs.Store, "documents/a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before it is there: %v", err)
	}
	if err := put(0, "first"); err != nil {
		t.Fatal(err)
	}
	got, revision, err := docstore.Get[document](t.Context(), docs.Store, "documents/a")
	if err != nil || got.Name != "first" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := put(revision, "second"); err != nil {
		t.Fatal(err)
	}
	if err := put(revision, "third"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("with an old revision: %v", err)
	}
}

func TestWhatIsNoJSONNamesItsKey(t *testing.T) {
	docs := docstoretest.Open(t)
	if _, err := docs.Commit(t.Context(), new(store.Tx).Put("documents/a", []byte("{"))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := docstore.Get[document](t.Context(), docs.Store, "documents/a"); err == nil || !strings.Contains(err.Error(), "documents/a") {
		t.Errorf("got %v", err)
	}
	if err := docstore.Put(new(store.Tx), "documents/a", func() {}); err == nil || !strings.Contains(err.Error(), "documents/a") {
		t.Errorf("got %v", err)
	}
}

func TestWatchFromARevisionMissesNothingAfterIt(t *testing.T) {
	docs := docstoretest.Open(t)
	revision, err := docs.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := docs.Commit(t.Context(), new(store.Tx).Put("documents/a", []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	for events, err := range docs.Watch(t.Context(), "documents/", revision) {
		if err != nil || len(events) != 1 || events[0].Key != "documents/a" {
			t.Errorf("got %+v, %v", events, err)
		}
		break
	}
}
