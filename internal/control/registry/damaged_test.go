package registry

import (
	"fmt"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// What is damaged in the store is an error that names its key, never an empty document and never a permission.
func TestDamagedDocumentIsAnErrorThatNamesItsKey(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	cert := db.Certificates[0]
	a := w.authorities()[0]
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Certificates: map[string]api.Usage{cert.Serial: {Sessions: 1}}})
	second, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	w.done(second, err)
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", second.ID, 0))
	w.done(w.AddProxy(w.ctx, admin, "orders", beside("local", "here", "/policies/orders")))
	revoked, _, err := w.docs.List(w.ctx, keyRevoked+a.ID+"/")
	w.done(revoked, err)
	other := w.database("other")
	uses := map[string][]func() error{
		KeyDatabases + db.ID: {
			func() error { _, err := w.Databases(w.ctx); return err },
			func() error { _, err := w.Reconcile(w.ctx); return err },
			func() error { _, err := w.CAUsers(w.ctx, "acme", a.ID, Observation{}); return err },
			func() error { return w.ClaimDirs(w.ctx) },
		},
		keyLeaves + cert.ID:      {func() error { _, err := w.CertificateFiles(w.ctx, "orders", cert.ID); return err }},
		keyLeaves + db.Server.ID: {func() error { _, err := w.Policy(w.ctx, db.ID); return err }},
		authorityKey("acme", a.ID): {
			func() error { _, err := w.EnableMTLS(w.ctx, admin, other.ID); return err },
			func() error { _, err := w.RevocationList(w.ctx, "acme", a.ID); return err },
			func() error { _, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}); return err },
			func() error { _, err := w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0); return err },
			func() error { _, err := w.RotateCA(w.ctx, admin, "acme"); return err },
			func() error { _, err := w.RetireCA(w.ctx, admin, "acme", a.ID, true); return err },
			func() error { _, err := w.Policy(w.ctx, db.ID); return err },
			func() error { _, err := w.Chain(w.ctx, "acme"); return err },
			func() error { _, err := w.CertificateFiles(w.ctx, "orders", cert.ID); return err },
			func() error { _, err := w.Reconcile(w.ctx); return err },
		},
		keySpaces + "acme":         {func() error { _, err := w.RotateCA(w.ctx, admin, "acme"); return err }},
		keyUsage + db.ID + "/edge": {func() error { _, err := w.CAUsers(w.ctx, "acme", a.ID, Observation{}); return err }},
		keyDirs + "here/policies/orders": {
			func() error {
				_, err := w.AddProxy(w.ctx, admin, "other", beside("second", "here", "/policies/orders"))
				return err
			},
			func() error { _, err := w.RemoveProxy(w.ctx, admin, "orders", "local"); return err },
		},
		revoked[0].Key: {
			func() error { _, err := w.RevocationList(w.ctx, "acme", a.ID); return err },
			func() error { _, err := w.CountRevoked(w.ctx, a); return err },
			func() error { _, err := w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0); return err },
			func() error { w.at = w.at.Add(pruneEvery); _, err := w.Reconcile(w.ctx); return err },
		},
	}
	for key, calls := range uses {
		item, err := w.docs.Get(w.ctx, key)
		w.done(nil, err)
		w.done(w.docs.Commit(w.ctx, new(store.Tx).Put(key, []byte("{"))))
		for i, use := range calls {
			if err := use(); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s, use %d: %v", key, i, err)
			}
		}
		w.done(w.docs.Commit(w.ctx, new(store.Tx).Put(key, item.Value)))
	}
	w.whole()
}

// A certificate whose record is gone is not there, and one whose record is no certificate is never handed out.
func TestCertificateWithoutItsRecordIsNotHandedOut(t *testing.T) {
	w := newWorld(t)
	cert := w.operational("orders").Certificates[0]
	tx := new(store.Tx)
	w.done(nil, docstore.Put(tx, keyLeaves+cert.ID, leafRecord{Certificate: "no PEM"}))
	w.done(w.docs.Commit(w.ctx, tx))
	if _, err := w.CertificateFiles(w.ctx, "orders", cert.ID); err == nil || problem.Is(err, problem.NotFound) {
		t.Errorf("got %v", err)
	}
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Delete(keyLeaves+cert.ID)))
	_, err := w.CertificateFiles(w.ctx, "orders", cert.ID)
	refused(t, err, problem.NotFound, cert.ID)
}

// A key that is lost, or sealed for another ring, stops what it signs, and nothing else.
func TestWithoutItsKeyAnAuthoritySignsNothing(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	w.database("second")
	a := w.authorities()[0]
	key, err := w.docs.Get(w.ctx, keySigners+a.ID)
	w.done(nil, err)
	for name, tx := range map[string]*store.Tx{
		"lost":    new(store.Tx).Delete(key.Key),
		"damaged": new(store.Tx).Put(key.Key, key.Value[:len(key.Value)-1]),
		"no key":  new(store.Tx).Put(key.Key, w.docs.Ring.Seal(key.Key, []byte("x"))),
	} {
		w.done(w.docs.Commit(w.ctx, tx))
		for what, err := range map[string]error{
			"a certificate was issued": second(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})),
			"mutual TLS was created":   second(w.EnableMTLS(w.ctx, admin, "second")),
			"a list was signed":        second(w.RevocationList(w.ctx, "acme", a.ID)),
		} {
			if err == nil || problem.Is(err, problem.NotFound) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		w.done(w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: fmt.Sprintf("10.0.%d.0/24", len(name))}))
	}
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Put(key.Key, key.Value)))
	w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}))
	if got := w.is("orders"); got.ID != db.ID || len(got.Certificates) != 2 {
		t.Errorf("%d certificates", len(got.Certificates))
	}
}
