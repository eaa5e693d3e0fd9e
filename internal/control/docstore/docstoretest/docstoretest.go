// Package docstoretest opens real stores for the tests of the control plane.
package docstoretest

import (
	"testing"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
)

// Open returns a store of its own, with a new master key. Both end with the test.
func Open(t testing.TB) *docstore.Docs {
	t.Helper()
	kept, err := store.Open(t.Context(), store.Options{DataDir: t.TempDir() + "/etcd", Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	return &docstore.Docs{Store: kept, Ring: Ring(t, seal.Generate())}
}

// Ring returns the ring of the keys in the text of a master key file.
func Ring(t testing.TB, text []byte) *seal.Ring {
	t.Helper()
	ring, err := seal.ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// Log returns a logger that writes into the test's log.
func Log(t testing.TB) zerolog.Logger { return zerolog.New(zerolog.NewTestWriter(t)) }
