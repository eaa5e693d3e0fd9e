package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/store"
)

// kept are the keys under a prefix.
func (w *world) kept(prefix string) (keys []string) {
	w.t.Helper()
	items, _, err := w.docs.List(w.ctx, prefix)
	w.done(nil, err)
	for _, item := range items {
		keys = append(keys, item.Key)
	}
	return keys
}

func TestListThatNoPolicyNamesIsGoneWithTheChange(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	for range 4 {
		cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
		w.done(cert, err)
		w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0))
		if got := w.kept(keyLists); len(got) != 1 {
			t.Errorf("the lists %q are kept", got)
		}
	}
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	w.acknowledged("orders")
	w.done(nil, w.DeleteDatabase(w.ctx, admin, db.ID))
	if got := w.kept(keyLists); len(got) != 0 {
		t.Errorf("the lists %q of a deleted database are kept", got)
	}
	if n := len(w.allRevoked()); n != 5 {
		t.Errorf("%d certificates of a deleted database are on the space's list, want 5", n)
	}
	w.at = w.at.AddDate(0, 13, 0).Add(keepRevoked - time.Hour)
	w.due()
	if got := w.kept(keyRevoked); len(got) != 5 {
		t.Errorf("%q are kept, want 5", got)
	}
	w.at = w.at.Add(2 * time.Hour)
	w.due()
	if got := w.kept(keyRevoked); len(got) != 0 {
		t.Errorf("%q is kept after the end", got)
	}
}

func TestListsOfARetiredAuthorityAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	w.done(cert, err)
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0))
	old := w.authorities()[0].ID
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	w.done(w.RetireCA(w.ctx, admin, "acme", old, true))
	w.due()
	if got := w.kept(keyLists); len(got) != 1 || strings.Contains(got[0], old) {
		t.Errorf("the lists %q are kept", got)
	}
	w.at = w.at.Add(pruneEvery + time.Minute)
	w.due()
	if got := w.kept(keyRevoked); len(got) != 0 {
		t.Errorf("what a retired authority revoked is kept: %q", got)
	}
	w.whole()
}

// More than one transaction deletes.
func TestManyRecordsAreForgottenInSeveralTransactions(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	ca := w.authorities()[0].ID
	for n := range 230 {
		end := w.at.AddDate(0, 0, n%2*400)
		tx := new(store.Tx)
		w.done(nil, docstore.Put(tx, revokedKey(ca, db.ID, int64(1000+n)), []Revoked{{Serial: fmt.Sprintf("01:%02x", n), At: w.at, ExpiresAt: end}}))
		w.done(w.docs.Commit(w.ctx, tx))
		tx = new(store.Tx).Put(crlKey(ca, int64(n+1)), []byte("a list of an older release"))
		w.done(w.docs.Commit(w.ctx, tx))
	}
	w.at = w.at.Add(keepRevoked + time.Hour)
	w.due()
	if got := w.kept(keyRevoked); len(got) != 115 {
		t.Errorf("%d records are kept, want 115", len(got))
	}
	if got := w.kept(keyCRLs); len(got) != 0 {
		t.Errorf("%d lists of an older release are kept", len(got))
	}
}

func TestAuthorityThatEndsIsToldOnce(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	a := w.authorities()[0]
	w.at = a.NotAfter.Add(-caWarning + time.Hour)
	w.due()
	w.due()
	var kinds []outbox.Kind
	notices, err := w.outbox.Pending(w.ctx)
	w.done(notices, err)
	for _, n := range notices {
		kinds = append(kinds, n.Kind)
		if n.Kind == outbox.CAExpiring && (n.Authority != a.Subject || n.Space != "acme" || !n.ExpiresAt.Equal(a.NotAfter)) {
			t.Errorf("got %+v", n)
		}
	}
	kinds = slices.DeleteFunc(kinds, func(k outbox.Kind) bool { return k != outbox.CAExpiring })
	if len(kinds) != 1 {
		t.Errorf("it was told %d times", len(kinds))
	}
}

func TestLifetimesAreThoseThatWereAskedFor(t *testing.T) {
	got := Lifetimes{ClientMonths: 1, CAYears: 2, Server: day, ServerRenewBefore: time.Hour}.orDefaults()
	want := DefaultLifetimes
	want.ClientMonths, want.CAYears, want.Server, want.ServerRenewBefore = 1, 2, day, time.Hour
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Two daemons reconcile at the same time: what is due is done once.
func TestTwoRegistriesDoWhatIsDueOnce(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	other := w.another(w.docs)
	cert := w.is("orders").Certificates[0]
	w.at = cert.ExpiresAt.Add(-75 * day)
	done := make(chan error, 2)
	for _, r := range []*Registry{w.Registry, other} {
		go func() { _, err := r.Reconcile(w.ctx); done <- err }()
	}
	for range 2 {
		w.done(nil, <-done)
	}
	successors := 0
	for _, c := range w.is("orders").Certificates {
		if c.Predecessor == cert.ID {
			successors++
		}
	}
	if n := w.count("certificate.renew"); successors != 1 || n != 1 {
		t.Errorf("%d successors, %d records", successors, n)
	}
	w.whole()
}

func TestNextDueIsWhatTheDocumentTells(t *testing.T) {
	w := newWorld(t)
	db := w.database("orders")
	if at := w.NextDue(&db); !at.IsZero() {
		t.Errorf("a database without mutual TLS is due at %s", at)
	}
	w.operational("second")
	rule, err := w.CreateRule(w.ctx, admin, "second", NewRule{CIDR: "192.0.2.0/24", ExpiresAt: w.at.Add(time.Hour)})
	w.done(rule, err)
	db = w.is("second")
	if at := w.NextDue(&db); !at.Equal(rule.ExpiresAt) {
		t.Errorf("due at %s, and a rule ends at %s", at, rule.ExpiresAt)
	}
	if since, waits := db.WaitingSince(); !waits || !since.Equal(rule.UpdatedAt) {
		t.Errorf("it waits %t since %s", waits, since)
	}
	without, err := w.WithoutRule(w.ctx, "second", rule.ID)
	if err != nil || strings.Contains(string(without.Files["policy.yaml"]), rule.CIDR) || without.Generation != db.Generation+1 {
		t.Errorf("without the rule: %+v, %v", without, err)
	}
	if got := w.is("second"); got.Generation != db.Generation || len(got.Rules) != 1 {
		t.Error("asking what a delete would do has done it")
	}
}
