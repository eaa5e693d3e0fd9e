package registry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

const day = 24 * time.Hour

// Two years go by in steps of six hours. At no moment may a client, a server or a revocation list be out of date, and
// every certificate must have had a successor long enough before its end.
func TestTwoYearsGoByWithoutAnybodyDoingAnything(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	first := w.is("orders").Certificates[0]
	overlap := time.Duration(0)
	for end := w.at.AddDate(2, 0, 0); w.at.Before(end); w.at = w.at.Add(6 * time.Hour) {
		w.due()
		db := w.acknowledged("orders")
		ready := 0
		for _, cert := range db.Certificates {
			if cert.Status != Ready {
				continue
			}
			ready++
			if !cert.ExpiresAt.After(w.at) {
				t.Fatalf("%s: certificate %s is ready and has ended at %s", w.at, cert.ID, cert.ExpiresAt)
			}
			if cert.ID == first.ID && cert.Successor != "" && overlap == 0 {
				overlap = cert.ExpiresAt.Sub(w.at)
			}
		}
		if ready == 0 || ready > 2 {
			t.Fatalf("%s: %d certificates are ready", w.at, ready)
		}
		if left := db.Server.NotAfter.Sub(w.at); left < 29*day {
			t.Fatalf("%s: the server certificate ends in %s", w.at, left)
		}
		if left := db.Trust[0].NextUpdate.Sub(w.at); left < 14*day {
			t.Fatalf("%s: the revocation list in the policy ends in %s", w.at, left)
		}
	}
	if overlap < 74*day || overlap > 75*day {
		t.Errorf("the first successor came %s before the end", overlap)
	}
	if got := w.certificate("orders", first.ID); got.Status != Disabled {
		t.Errorf("the first certificate ended, and is %s", got.Status)
	}
	for _, db := range []string{"orders"} {
		if text := w.policyText(db); strings.Count(text, "client-crl-") != 1 {
			t.Errorf("policy:\n%s", text)
		}
	}
	if notices, err := w.outbox.Pending(w.ctx); err != nil || len(notices) != 2 || notices[0].Certificate.ID != first.ID || notices[0].Successor == nil {
		t.Errorf("%d notices, %v: %+v", len(notices), err, notices)
	}
	for _, prefix := range []string{keyCRLs, keyLists, keyRevoked} {
		kept, _, err := w.docs.List(w.ctx, prefix)
		w.done(kept, err)
		if len(kept) > 1 {
			t.Errorf("%d of %s are kept", len(kept), prefix)
		}
	}
	records, _, err := w.docs.List(w.ctx, "audit/")
	w.done(records, err)
	oldest, err := docstore.Decode[audit.Record](records[0])
	if w.done(oldest, err); w.at.Sub(oldest.At) > 401*day {
		t.Errorf("a record of %s is kept", oldest.At)
	}
}

func TestSuccessorOfAClientsOwnKeyIsForTheSameKey(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "own", Request: request(t)})
	if err != nil || !cert.OwnKey {
		t.Fatalf("got %+v, %v", cert, err)
	}
	old, err := w.CertificateFiles(w.ctx, "orders", cert.ID)
	if err != nil || old.KeyPEM != "" {
		t.Fatalf("got key %q, %v", old.KeyPEM, err)
	}
	w.at = cert.ExpiresAt.Add(-75 * day)
	w.due()
	successor := w.certificate("orders", w.certificate("orders", cert.ID).Successor)
	renewed, err := w.CertificateFiles(w.ctx, "orders", successor.ID)
	w.done(renewed, err)
	if !successor.OwnKey || renewed.KeyPEM != "" || successor.Predecessor != cert.ID || successor.Name != "own" {
		t.Errorf("got %+v", successor)
	}
	if !publicKey(t, old.CertificatePEM).Equal(publicKey(t, renewed.CertificatePEM)) {
		t.Error("the successor is for another key")
	}
	if _, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Request: []byte("no request")}); err == nil {
		t.Error("what is no request was taken")
	}
}

func TestRuleThatRunsOutIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	rule, err := w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: "192.0.2.0/24", ExpiresAt: w.at.Add(time.Hour)})
	w.done(rule, err)
	w.acknowledged("orders")
	if next := w.due(); !next.Equal(rule.ExpiresAt) {
		t.Errorf("next due at %s, the rule runs out at %s", next, rule.ExpiresAt)
	}
	w.at = w.at.Add(time.Hour)
	w.due()
	if got := w.is("orders").Rules[0]; got.Status != Deauthorizing {
		t.Errorf("the rule is %s", got.Status)
	}
	if w.acknowledged("orders"); len(w.is("orders").Rules) != 0 || !slices.Contains(w.actions(), "ip_rule.expired") {
		t.Errorf("got %+v, %q", w.is("orders").Rules, w.actions())
	}
}

func TestCARotationOverlapsUntilTheOldOneIsRetired(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.operational("other")
	old, cert := w.authorities()[0], w.is("orders").Certificates[0]
	_, err := w.RetireCA(w.ctx, admin, "acme", old.ID, false)
	refused(t, err, problem.Conflict, "rotate first")

	w.at = w.at.Add(time.Hour)
	fresh, err := w.RotateCA(w.ctx, admin, "acme")
	w.done(fresh, err)
	if list := w.authorities(); len(list) != 2 || list[0].ID != fresh.ID || list[1].State != RetiringCA {
		t.Fatalf("got %+v", list)
	}
	db := w.is("orders")
	if len(db.Trust) != 2 || db.Server.CA != old.ID {
		t.Errorf("trust %+v, server certificate of %s", db.Trust, db.Server.CA)
	}
	successor := w.certificate("orders", w.certificate("orders", cert.ID).Successor)
	if successor.CA != fresh.ID || successor.Status != Pending {
		t.Errorf("got %+v", successor)
	}
	w.acknowledged("orders")
	w.acknowledged("other")
	if got := w.certificate("orders", successor.ID); got.Status != Ready {
		t.Errorf("the successor is %s", got.Status)
	}
	chain, err := w.Chain(w.ctx, "acme")
	if err != nil || strings.Count(chain, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("chain %q, %v", chain, err)
	}

	// Somebody still comes with the old certificate.
	seen := map[string]api.Usage{cert.Serial: {Sessions: 1, LastSeen: w.at.Add(time.Minute)}}
	w.says(db, "edge", api.Report{Applied: w.is("orders").Generation, InForce: w.is("orders").Generation, Certificates: seen})
	_, err = w.RetireCA(w.ctx, admin, "acme", old.ID, false)
	refused(t, err, problem.Conflict, cert.Name+" of orders")
	// The proxy starts again and forgets; nobody came since. That proves nothing.
	w.says(db, "edge", api.Report{Applied: w.is("orders").Generation, InForce: w.is("orders").Generation,
		Certificates: map[string]api.Usage{"00": {}}})
	_, err = w.RetireCA(w.ctx, admin, "acme", old.ID, false)
	refused(t, err, problem.Conflict, cert.Name+" of orders")
	// Then somebody comes with its successor, for both databases.
	other := w.is("other")
	w.says(other, "edge", api.Report{Applied: other.Generation, InForce: other.Generation,
		Certificates: map[string]api.Usage{w.certificate("other", other.Certificates[0].Successor).Serial: {LastSeen: w.at}}})
	seen = map[string]api.Usage{successor.Serial: {Sessions: 1, LastSeen: w.at.Add(time.Hour)}}
	w.says(db, "edge", api.Report{Applied: w.is("orders").Generation, InForce: w.is("orders").Generation, Certificates: seen})
	users, err := w.CAUsers(w.ctx, "acme", old.ID, Observation{})
	if err != nil || len(users) != 4 || !users[0].Replaced || !users[1].Server {
		t.Errorf("got %+v, %v", users, err)
	}
	w.done(w.RetireCA(w.ctx, admin, "acme", old.ID, false))
	db = w.is("orders")
	if len(db.Trust) != 1 || db.Trust[0].CA != fresh.ID || db.Server.CA != fresh.ID || w.certificate("orders", cert.ID).Status != Disabling {
		t.Errorf("got %+v", db)
	}
	if text := w.policyText("orders"); strings.Count(text, "client-ca-") != 1 {
		t.Errorf("policy:\n%s", text)
	}
	if _, err := w.docs.Get(w.ctx, keySigners+old.ID); err == nil {
		t.Error("the key of the retired authority is still there")
	}
	if next := w.due(); !next.After(w.at) {
		t.Error("something stays due")
	}
}

func TestDaemonThatDiesInARotationIsFollowedUp(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	// What RotateCA commits, without what follows it.
	ca, err := w.makeCA("acme")
	w.done(ca, err)
	list := w.authorities()
	tx := new(store.Tx)
	fresh, err := w.putActive(w.ctx, tx, "acme", ca, false)
	w.done(fresh, err)
	list[0].State = RetiringCA
	w.done(nil, docstore.Put(tx.If(authorityKey("acme", list[0].ID), list[0].revision), authorityKey("acme", list[0].ID), list[0]))
	w.done(w.docs.Commit(w.ctx, tx))

	w.due()
	if db := w.is("orders"); len(db.Trust) != 2 || len(db.Certificates) != 2 {
		t.Errorf("got %+v", db)
	}
}

func TestAuthorityWhoseKeyIsLostHoldsUpNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	_, err := w.CreateDatabase(w.ctx, admin, NewDatabase{Name: "far", Space: "zoo", Hosts: []string{"far.example.com"}, Proxies: []NewProxy{{Name: "edge"}}})
	w.done(nil, err)
	w.done(w.EnableMTLS(w.ctx, admin, "far"))
	far := w.acknowledged("far")
	lost := w.authorities()[0]
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Delete(keySigners+lost.ID)))

	w.at = w.at.Add(16 * day) // both revocation lists are half over
	next, err := w.Reconcile(w.ctx)
	if err == nil || !strings.Contains(err.Error(), lost.ID) {
		t.Errorf("next due at %s, error %v", next, err)
	}
	if got := w.is("far").Trust[0]; !got.NextUpdate.After(far.Trust[0].NextUpdate) {
		t.Errorf("the list of the other space is still %+v", got)
	}
}

func TestImportedAuthoritySignsAndIsTrustedAlone(t *testing.T) {
	w := newWorld(t)
	ca, err := w.makeCA("acme")
	w.done(ca, err)
	a, err := w.ImportCA(w.ctx, admin, "acme", ImportedCA{CertificatePEM: ca.ChainPEM(), KeyPEM: ca.KeyPEM()})
	if err != nil || !a.External || a.State != ActiveCA {
		t.Fatalf("got %+v, %v", a, err)
	}
	if db := w.operational("orders"); db.Certificates[0].CA != a.ID {
		t.Errorf("the certificate is of %s", db.Certificates[0].CA)
	}
	_, err = w.ImportCA(w.ctx, admin, "acme", ImportedCA{CertificatePEM: ca.ChainPEM(), KeyPEM: ca.KeyPEM()})
	refused(t, err, problem.Conflict, "already")
	_, err = w.ImportCA(w.ctx, admin, "acme", ImportedCA{CertificatePEM: []byte("x"), KeyPEM: ca.KeyPEM()})
	refused(t, err, problem.InvalidParams, "")
	_, err = w.RotateCA(w.ctx, admin, "nowhere")
	refused(t, err, problem.NotFound, "nowhere")
}
