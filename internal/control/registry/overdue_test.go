package registry

import (
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
)

func (w *world) overdue() Overdue {
	w.t.Helper()
	databases, err := w.Databases(w.ctx)
	w.done(databases, err)
	overdue, err := w.Overdue(w.ctx, databases)
	w.done(overdue, err)
	return overdue
}

// used has the proxy of a database report when certificates were last seen.
func (w *world) used(name string, seen map[string]api.Usage) {
	w.t.Helper()
	db := w.is(name)
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Certificates: seen})
}

func TestNothingIsOverdueInItsLife(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	first := db.Certificates[0]
	for range 24 { // the leader does its work once in a fortnight, and clients take the successor when it is there
		w.at = w.at.Add(14 * 24 * time.Hour)
		w.due()
		w.acknowledged("orders")
		for _, cert := range w.is("orders").Certificates {
			if cert.ID == first.ID || cert.Predecessor == first.ID {
				w.used("orders", map[string]api.Usage{cert.Serial: {LastSeen: w.at}})
			}
		}
		if got := w.overdue(); got != (Overdue{}) {
			t.Fatalf("%s: %+v", w.at, got)
		}
	}
}

func TestListThatIsNotSignedAnewIsOverdue(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	w.database("idle") // without mutual TLS it has no list
	w.at = db.Trust[0].NextUpdate.Add(-w.lifetimes.CRL / 2)
	if got := w.overdue(); got.Lists != 1 {
		t.Errorf("half of its time is over: %+v", got)
	}
	w.due()
	if got := w.overdue(); got.Lists != 0 {
		t.Errorf("it was signed anew: %+v", got)
	}
	w.at = w.at.Add(time.Hour * 24 * 365)
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	if got := w.overdue(); got.Lists != 0 {
		t.Errorf("nobody is let in any more: %+v", got)
	}
}

// What ends is counted while its clients come with it, until they come with its successor.
func TestCertificateThatEndsInUseIsUnreplaced(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	old := db.Certificates[0]
	w.at = old.ExpiresAt.Add(-lastNotice)
	w.due()
	w.acknowledged("orders")
	successor := w.certificate("orders", w.certificate("orders", old.ID).Successor)
	for _, step := range []struct {
		name string
		seen map[string]api.Usage
		want int
	}{
		{"never seen", nil, 0},
		{"its successor alone was seen", map[string]api.Usage{successor.Serial: {LastSeen: w.at.Add(-9 * time.Hour)}}, 0},
		{"it was seen after its successor", map[string]api.Usage{old.Serial: {LastSeen: w.at.Add(-8 * time.Hour)}}, 1},
		{"its successor was seen after it", map[string]api.Usage{successor.Serial: {LastSeen: w.at.Add(-7 * time.Hour)}}, 0},
		{"it has a session", map[string]api.Usage{old.Serial: {Sessions: 1, LastSeen: w.at}}, 1},
	} {
		w.used("orders", step.seen)
		if got := w.overdue(); got.Certificates != step.want {
			t.Errorf("%s: %+v, want %d", step.name, got, step.want)
		}
	}
	w.at = w.at.Add(-time.Minute)
	if got := w.overdue(); got.Certificates != 0 {
		t.Errorf("there is time: %+v", got)
	}
	w.at = w.at.Add(time.Minute)
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", old.ID, 24*time.Hour))
	if got := w.overdue(); got.Certificates != 0 {
		t.Errorf("it is to be revoked anyway: %+v", got)
	}
}

// A certificate without a successor has none in use.
func TestCertificateWithoutSuccessorIsUnreplaced(t *testing.T) {
	w := newWorld(t)
	old := w.operational("orders").Certificates[0]
	w.used("orders", map[string]api.Usage{old.Serial: {LastSeen: w.at}})
	w.at = old.ExpiresAt.Add(-time.Hour)
	if got := w.overdue(); got.Certificates != 1 {
		t.Errorf("got %+v", got)
	}
}
