package registry

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// revokedMany is a database with as many certificates that were revoked while its proxy was away.
func (w *world) revokedMany(name string, n int) Database {
	w.t.Helper()
	w.operational(name)
	for begin := 0; begin < n; begin += 50 {
		w.done(w.change(w.ctx, audit.System, name, func(c *change) error {
			for i := begin; i < min(begin+50, n); i++ {
				cert := Certificate{ID: newID(), Name: fmt.Sprintf("app-%d", i), Serial: fmt.Sprintf("%02x:01", i), CA: c.db.Trust[0].CA, Status: Disabling,
					Generation: c.newPolicy(), CreatedAt: c.now, UpdatedAt: c.now, ExpiresAt: c.now.Add(365 * 24 * time.Hour)}
				c.db.Certificates = append(c.db.Certificates, cert)
				if err := c.putLeaf(cert.ID, []byte("a certificate"), []byte("a key")); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return w.is(name)
}

// leaves counts the certificates' texts and keys in the store.
func (w *world) leaves() int {
	w.t.Helper()
	items, _, err := w.docs.List(w.ctx, keyLeaves)
	w.done(items, err)
	return len(items)
}

// A transaction holds 128 changes, and each certificate that is disabled needs one. A proxy that was away for long must be able
// to come back.
func TestProxyThatWasAwayForManyRevocationsCanAcknowledgeThem(t *testing.T) {
	w := newWorld(t)
	db := w.revokedMany("orders", 190)
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation})
	statuses := make(map[Status]int)
	for _, cert := range w.is("orders").Certificates {
		statuses[cert.Status]++
	}
	if statuses[Disabling] != 0 || statuses[Disabled] != maxDisabled {
		t.Errorf("the certificates are %v", statuses)
	}
	if n := w.leaves(); n != 2 { // the server's and the first client's
		t.Errorf("%d leaves are left", n)
	}
	named := 0
	records, err := w.trail.List(w.ctx, audit.Query{Limit: 1000})
	w.done(records, err)
	for _, r := range records {
		if r.Action == "certificate.disabled" {
			named += max(1, len(strings.Fields(r.Detail["objects"])))
		}
	}
	if named != 190 {
		t.Errorf("the audit trail has %d of them", named)
	}
}

func TestMutualTLSWithManyRevokedCertificatesCanBeDestroyed(t *testing.T) {
	w := newWorld(t)
	w.revokedMany("orders", 190)
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	if n := w.leaves(); n != 1 { // the server's
		t.Errorf("%d leaves are left", n)
	}
	db := w.acknowledged("orders")
	if db.MTLS != nil {
		t.Errorf("it is still %s", db.MTLS.Status)
	}
}

// What a crash has left between two transactions is finished later.
func TestCertificatesThatWereNotDisabledWithTheOthersAreNotForgotten(t *testing.T) {
	w := newWorld(t)
	db := w.revokedMany("orders", 190)
	for i := range db.Proxies {
		db.Proxies[i].Acknowledged.Applied, db.Proxies[i].Acknowledged.InForce = db.Generation, db.Generation
	}
	w.put(db)
	w.due()
	for _, cert := range w.is("orders").Certificates {
		if cert.Status == Disabling {
			t.Fatal("a certificate is still disabling")
		}
	}
}

// Rules of a maintenance window end together, and so may certificates.
func TestManyThingsThatAreDueTogetherFitIntoTheirTransactions(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	end := w.at.Add(24 * time.Hour)
	for i := range MaxRules {
		w.done(w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: fmt.Sprintf("198.51.%d.0/24", i), Description: "window", ExpiresAt: end}))
	}
	for i := range 30 {
		w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: fmt.Sprintf("app-%d", i)}))
	}
	w.acknowledged("orders")
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	w.at = end.Add(time.Minute)
	w.due()
	w.due()
	for _, rule := range w.is("orders").Rules {
		if rule.Status != Deauthorizing {
			t.Errorf("rule %s is %s", rule.CIDR, rule.Status)
		}
	}
	named := 0
	records, err := w.trail.List(w.ctx, audit.Query{Limit: 1000})
	w.done(records, err)
	for _, r := range records {
		if r.Action == "ip_rule.expired" {
			named += max(1, len(strings.Fields(r.Detail["objects"])))
		}
	}
	if named != MaxRules {
		t.Errorf("the audit trail has %d rules that expired", named)
	}
}

// put writes a document as another daemon would.
func (w *world) put(db Database) {
	w.t.Helper()
	tx := new(store.Tx).If(KeyDatabases+db.ID, db.revision)
	w.done(nil, docstore.Put(tx, KeyDatabases+db.ID, db))
	w.done(w.docs.Commit(w.ctx, tx))
}
