package registry

import (
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
)

// The account stays the same, with another key, and orders go on.
func testEnhancedRollover(t *testing.T, w *publicWorld) {
	status, err := w.PublicStatus(w.ctx)
	if err != nil || len(status.Authorities) == 0 {
		t.Fatalf("%+v, %v", status, err)
	}
	before := status.Authorities[0]
	after, err := w.RollOver(w.ctx, admin, before.Name)
	if err != nil || after.Account != before.Account || after.Account == "" {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
	if actions := w.actions(); !slices.Contains(actions, "acme.rollover") {
		t.Errorf("the audit trail has %v", actions)
	}
	_, err = w.RollOver(w.ctx, admin, "nobody")
	refused(t, err, problem.NotFound, "nobody")
	w.operational("rolled")
	w.enabled("rolled")
}

// What is delivered again, for another certificate, or has been replaced meanwhile changes no policy.
func testEnhancedDeliveredAgain(t *testing.T, w *publicWorld) {
	w.operational("once")
	db := w.enabled("once")
	cert, err := w.public.Manager.Certificate(w.ctx, db.ID)
	if err != nil {
		t.Fatal(err)
	}
	another, replaced := cert, cert
	another.ID = "another"
	gone := *cert.Leaf
	gone.ID = "gone"
	replaced.Leaf = &gone
	for name, given := range map[string]acme.Certificate{"the same": cert, "another": another, "replaced": replaced} {
		if err := w.deliver(w.ctx, db.ID, given); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now := w.is("once"); now.Generation != db.Generation || now.Enhanced.Leaf.ID != db.Enhanced.Leaf.ID {
		t.Errorf("generation %d became %d", db.Generation, now.Generation)
	}
}

func TestCertificateIsNotBroughtWhileMutualTLSIsBeingDestroyed(t *testing.T) {
	w := newWorld(t)
	w.at = time.Now()
	w.operational("orders")
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	_, err := w.UploadEnhanced(w.ctx, admin, "orders", brought(t, 1000*24*time.Hour, "db.example.org"))
	refused(t, err, problem.Conflict, "is being destroyed")
}

func TestNothingIsRefusedWhereThereIsNoPolicy(t *testing.T) {
	w := newWorld(t)
	w.says(w.database("orders"), "edge", api.Report{Error: "policy.yaml does not exist"})
	if actions := w.actions(); slices.Contains(actions, "policy.refused") {
		t.Errorf("the audit trail has %v", actions)
	}
}

func TestPositionAndDetailAreOneText(t *testing.T) {
	for _, row := range [][3]string{{"", "", ""}, {"first", "", "first"}, {"", "second", "second"}, {"first", "second", "first; second"}} {
		if got := joinedText(row[0], row[1]); got != row[2] {
			t.Errorf("%q and %q are %q", row[0], row[1], got)
		}
	}
}
