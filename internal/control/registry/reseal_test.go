package registry

import (
	"slices"
	"testing"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/seal"
)

// A master key is replaced in three steps: the new one comes first in the file, everything is sealed anew, and the old
// one goes. After that the store must not need it for anything.
func TestOldMasterKeyIsNeededUntilEverythingIsSealedAnew(t *testing.T) {
	w := newWorld(t)
	first := seal.Generate()
	ring := func(keys ...[]byte) {
		t.Helper()
		w.Registry = w.another(&docstore.Docs{Store: w.docs.Store, Ring: docstoretest.Ring(t, slices.Concat(keys...))})
	}
	ring(first)
	w.operational("orders")
	w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "own", Request: request(t)}))
	policy := w.policyText("orders")
	if n, err := w.Reseal(w.ctx); err != nil || n != 0 {
		t.Errorf("%d keys were sealed anew without a new key, %v", n, err)
	}

	second := seal.Generate()
	ring(second)
	if _, err := w.Reseal(w.ctx); err == nil {
		t.Error("keys were sealed anew that could not be opened")
	}
	ring(second, first)
	if n, err := w.Reseal(w.ctx); err != nil || n != 3 { // the authority's, the server's, the first client's
		t.Errorf("%d keys were sealed anew, %v", n, err)
	}
	if n, err := w.Reseal(w.ctx); err != nil || n != 0 {
		t.Errorf("%d keys were sealed anew twice, %v", n, err)
	}
	ring(second)
	if got := w.policyText("orders"); got != policy {
		t.Errorf("the policy has changed from\n%s\nto\n%s", policy, got)
	}
	w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}))
}
