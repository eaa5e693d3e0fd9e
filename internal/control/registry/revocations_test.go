package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// notRevoked wants a certificate to be on no list of a database's policy.
func (w *world) notRevoked(db, serial string) {
	w.t.Helper()
	_, _, lists := w.inPolicy(db)
	for _, list := range lists {
		for _, entry := range list.RevokedCertificateEntries {
			if fmt.Sprintf("%x", entry.SerialNumber) == strings.TrimLeft(strings.ReplaceAll(serial, ":", ""), "0") {
				w.t.Errorf("certificate %s is on a list of %s", serial, db)
			}
		}
	}
}

func (w *world) issued(db string) Certificate {
	w.t.Helper()
	cert, err := w.CreateCertificate(w.ctx, admin, db, NewCertificate{})
	w.done(cert, err)
	return cert
}

func TestProxyIsGivenWhatItsOwnDatabaseRevokedAndNothingElse(t *testing.T) {
	w := newWorld(t)
	for _, db := range []string{"orders", "other"} {
		w.operational(db)
	}
	mine, theirs, other := w.issued("orders"), w.issued("other"), w.is("other")
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", mine.ID, 0))
	if got := w.is("other"); got.Generation != other.Generation || w.NextDue(&got).Before(w.at.Add(day)) {
		t.Errorf("a revocation of another database made generation %d of %d", got.Generation, other.Generation)
	}
	w.done(w.DeleteCertificate(w.ctx, admin, "other", theirs.ID, 0))
	w.due()
	w.revoked("orders", mine)
	w.revoked("other", theirs)
	w.notRevoked("orders", theirs.Serial)
	w.notRevoked("other", mine.Serial)
	if n, err := w.CountRevoked(w.ctx, w.authorities()[0]); err != nil || n != 2 {
		t.Errorf("the authority has revoked %d, %v", n, err)
	}
}

// What one revocation writes, in bytes.
func (w *world) written(db string, f func()) (size int) {
	w.t.Helper()
	f()
	revision := w.is(db).revision
	items, _, err := w.docs.List(w.ctx, "")
	w.done(nil, err)
	for _, item := range items {
		if item.Revision == revision {
			size += len(item.Key) + len(item.Value)
		}
	}
	return size
}

func TestRevocationWritesTheSameWhateverTheSpaceHasRevoked(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	neighbour := w.operational("neighbour")
	var certs [2]Certificate
	for i := range certs {
		certs[i] = w.issued("orders")
	}
	var sizes [2]int
	for i, cert := range certs {
		sizes[i] = w.written("orders", func() { w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0)) })
		if i == 0 {
			w.fill(neighbour.ID, 20000)
		}
	}
	t.Logf("a revocation writes %d bytes, and %d with 20,000 revoked certificates in the space", sizes[0], sizes[1])
	if sizes[1] > sizes[0]+100 || sizes[0] > 20<<10 || sizes[0] < 1<<10 {
		t.Errorf("a revocation writes %d bytes, and %d with 20,000 revoked certificates in the space", sizes[0], sizes[1])
	}
	list, err := w.RevocationList(w.ctx, "acme", "")
	if err != nil || list.Revoked != 20002 {
		t.Errorf("the list for others has %d, %v", list.Revoked, err)
	}
}

// A database revokes for a day as many as it may, and lists as many as it lists.
func TestRevocationWritesLessThan20KBAfterADayOfRevoking(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	w.fill(db.ID, MaxIssuesPerDay-maxDisabled-1)
	size := 0
	for range maxDisabled + 1 {
		cert := w.issued("orders")
		w.acknowledged("orders")
		size = w.written("orders", func() { w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0)) })
		w.acknowledged("orders")
	}
	t.Logf("the last of %d revocations wrote %d bytes", MaxIssuesPerDay, size)
	if trust := w.is("orders").Trust[0]; trust.Revoked != MaxIssuesPerDay || size > 20000 {
		t.Errorf("%d are revoked, and the last one wrote %d bytes", trust.Revoked, size)
	}
}

// ofOlderLists makes the store that of an older release: the authority has all that was revoked, and one list of it is in the policy
// of every database.
func (w *world) ofOlderLists(databases []string, revoked ...Revoked) Authority {
	w.t.Helper()
	a := w.authorities()[0]
	a.Revoked = revoked
	ca, err := w.signer(w.ctx, &a)
	w.done(ca, err)
	list := w.listOf(revoked, 7, w.at)
	text, err := ca.SignCRL(list)
	w.done(text, err)
	tx := new(store.Tx).Put(crlKey(a.ID, 7), text).Put(crlKey(a.ID, 6), text)
	tx.DeletePrefix(keyRevoked).DeletePrefix(keyLists)
	w.done(nil, docstore.Put(tx, authorityKey(a.Space, a.ID), a))
	for _, name := range databases {
		db := w.is(name)
		db.Trust = []Trust{{CA: a.ID, Generation: db.Trust[0].Generation, CRL: 7, NextUpdate: list.NextUpdate}}
		w.done(nil, docstore.Put(tx, KeyDatabases+db.ID, db))
	}
	w.done(w.docs.Commit(w.ctx, tx))
	return a
}

func TestWhatAnOlderReleaseRevokedStaysRevoked(t *testing.T) {
	w := newWorld(t)
	names := []string{"orders", "other"}
	for _, db := range names {
		w.operational(db)
	}
	known, late, live := w.issued("orders"), w.issued("orders"), w.issued("orders")
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", known.ID, 0))
	entry := func(serial string) Revoked {
		return Revoked{Serial: serial, At: w.at, ExpiresAt: w.at.AddDate(0, 13, 0)}
	}
	forgotten := "7f:00:00:01" // of a database that does not list it any more
	w.ofOlderLists(names, entry(known.Serial), entry(forgotten))
	w.revoked("other", Certificate{Serial: forgotten}) // by the list of the older release

	// A revocation before anything else keeps what was revoked before.
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", late.ID, 0))
	for range 2 {
		for _, serial := range []string{known.Serial, late.Serial, forgotten} {
			w.revoked("orders", Certificate{Serial: serial})
		}
		w.revoked("other", Certificate{Serial: forgotten})
		w.notRevoked("orders", live.Serial)
		if n := len(w.allRevoked()); n != 3 {
			t.Errorf("%d are revoked in the space, want 3", n)
		}
		w.due()
	}
	if a := w.authorities()[0]; len(a.Revoked) != 1 || a.Revoked[0].Serial != forgotten {
		t.Errorf("the authority still has %+v", a.Revoked)
	}
	w.notRevoked("other", known.Serial)
	for _, name := range names {
		if trust := w.is(name).Trust[0]; !trust.Own || trust.CRL != 8 {
			t.Errorf("%s has the list %+v", name, trust)
		}
	}
	if got := w.kept(keyCRLs); len(got) != 1 { // the first look kept what was named when it began
		t.Errorf("the lists %q are kept", got)
	}
	w.at = w.at.Add(pruneEvery)
	w.due()
	if got := w.kept(keyCRLs); len(got) != 0 {
		t.Errorf("the lists %q are kept", got)
	}
	generation := w.is("orders").Generation
	w.due()
	if got := w.is("orders").Generation; got != generation {
		t.Errorf("generation %d became %d for nothing", generation, got)
	}
}

// A list that can't be signed anew keeps nothing else waiting: what takes away goes on.
func TestListThatCanNotBeSignedHoldsUpNoRule(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	rule, err := w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: "192.0.2.0/24", ExpiresAt: w.at.Add(16 * day)})
	w.done(rule, err)
	before, lost := w.is("orders").Trust[0], w.authorities()[0]
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Delete(keySigners+lost.ID)))
	w.at = w.at.Add(17 * day)
	if _, err := w.Reconcile(w.ctx); err == nil || !strings.Contains(err.Error(), lost.ID) || !strings.Contains(err.Error(), "orders") {
		t.Errorf("got %v", err)
	}
	if db := w.is("orders"); db.Rules[0].Status != Deauthorizing || db.Trust[0] != before {
		t.Errorf("the rule is %s, and the list %+v", db.Rules[0].Status, db.Trust[0])
	}
}

// Run with: go test -run xxx -bench Revocation ./internal/control/registry
func BenchmarkRevocation(b *testing.B) {
	for _, revoked := range []int{0, 1000, 20000} {
		b.Run(fmt.Sprintf("in-space=%d", revoked), func(b *testing.B) {
			w := newWorld(b)
			w.operational("orders")
			w.fill(w.operational("neighbour").ID, revoked)
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				w.done(w.change(w.ctx, admin, "orders", func(c *change) error { c.db.Issues = nil; return nil }))
				cert := w.issued("orders")
				w.acknowledged("orders")
				b.StartTimer()
				start := time.Now()
				w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0))
				took = append(took, time.Since(start))
				b.StopTimer()
				w.acknowledged("orders")
				b.StartTimer()
			}
			b.StopTimer()
			cert := w.issued("orders")
			written := w.written("orders", func() { w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0)) })
			b.ReportMetric(float64(written), "bytes-written")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
			start := time.Now()
			w.done(w.RevocationList(w.ctx, "acme", ""))
			b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms-whole-list")
		})
	}
}

// What is revoked has to be in the lists that its change signs, so a change can't revoke again behind them.
func TestChangeRevokesOnceAndOfKnownAuthoritiesOnly(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	cert := w.is("orders").Certificates[0]
	for name, f := range map[string]func(c *change) error{
		"after it had signed": func(c *change) error {
			return errors.Join(c.revoke(c.db.certificate(cert.ID)), c.revoke())
		},
		"authority unknown of space acme": func(c *change) error {
			cert := *c.db.certificate(cert.ID)
			cert.CA = "unknown"
			return c.revoke(&cert)
		},
	} {
		if _, err := w.change(w.ctx, admin, "orders", f); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %q", err, name)
		}
	}
	if now := w.certificate("orders", cert.ID); now.Status != cert.Status {
		t.Errorf("the certificate is %s", now.Status)
	}
}
