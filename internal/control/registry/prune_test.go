package registry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/outbox"
)

// lists are the numbers of the revocation lists of an authority that are in the store.
func (w *world) lists(ca string) (keys []string) {
	w.t.Helper()
	items, _, err := w.docs.List(w.ctx, keyCRLs+ca+"/")
	w.done(nil, err)
	for _, item := range items {
		keys = append(keys, strings.TrimPrefix(item.Key, keyCRLs+ca+"/"))
	}
	return keys
}

func TestListsThatNoPolicyNamesAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.operational("behind") // names the first list, and is not touched
	ca := w.authorities()[0].ID
	for range 4 {
		cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
		w.done(cert, err)
		w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0))
	}
	w.due()
	if n := len(w.lists(ca)); n != 5 {
		t.Errorf("%d lists are kept, and a policy names the first", n)
	}
	w.at = w.at.Add(16 * day) // both policies get a new one
	w.due()
	w.at = w.at.Add(pruneEvery)
	w.due()
	if got := w.lists(ca); len(got) != 1 {
		t.Errorf("the lists %q are kept", got)
	}
}

func TestListsOfARetiredAuthorityAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	old := w.authorities()[0].ID
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	w.done(w.RetireCA(w.ctx, admin, "acme", old, true))
	w.due()
	if len(w.lists(old)) == 0 {
		t.Error("they were forgotten at once: a change that began before the retirement may name one")
	}
	w.at = w.at.Add(pruneEvery + time.Minute)
	w.due()
	if got := w.lists(old); len(got) != 0 {
		t.Errorf("the lists %q of a retired authority are kept", got)
	}
	if active := w.authorities()[0]; len(w.lists(active.ID)) == 0 {
		t.Error("the list of the authority that signs is gone")
	}
	w.whole()
}

// More than one transaction deletes.
func TestManyListsAreForgottenInSeveralTransactions(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	ca := w.authorities()[0].ID
	w.done(nil, w.dropCRLs(w.ctx, ca, 1)) // nothing is below the first
	for range 120 {
		a, err := w.Authorities(w.ctx, "acme")
		w.done(nil, err)
		w.at = w.at.Add(16 * day)
		w.done(nil, w.dueAuthority(w.ctx, w.at, &a[0]))
	}
	w.done(nil, w.dropCRLs(w.ctx, ca, 115))
	if got := w.lists(ca); len(got) != 121-114 {
		t.Errorf("%d lists are kept: %q", len(got), got)
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
