package registry

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The clock here is the real one: what is to be seen is that the leader wakes in time.
func TestLeaderWakesForWhatAChangeBringsForward(t *testing.T) {
	w := newWorld(t)
	w.Registry = New(Options{Store: w.store, Ring: w.ring, Log: w.log})
	db := w.operational("orders")
	ctx, cancel := context.WithCancel(w.ctx)
	hub := NewHub(w.Registry, w.log)
	ended := make(chan error, 2)
	go func() { ended <- hub.Run(ctx) }()
	go func() { ended <- w.RunReconciler(ctx, hub) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
		}
	}()
	id := db.Certificates[0].ID
	after := 700 * time.Millisecond
	var asked time.Time
	for change := range hub.Follow(ctx, db.ID) {
		cert := change.Database.certificate(id)
		switch {
		case asked.IsZero():
			asked = time.Now()
			w.done(w.DeleteCertificate(w.ctx, admin, "orders", id, after))
		case cert.Status == Disabling:
			if took := time.Since(asked); took < after || took > 10*time.Second {
				t.Errorf("it was revoked after %s, not after %s", took, after)
			}
			return
		}
	}
	t.Error("it was never revoked")
}

func TestNoticeThatWasToldLeavesTheStore(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.at = w.is("orders").Certificates[0].ExpiresAt.Add(-75 * day)
	w.due()
	ctx, cancel := context.WithCancel(w.ctx)
	ended, told := make(chan error, 1), make(chan Notice)
	go func() {
		ended <- w.SendNotices(ctx, func(_ context.Context, n Notice) (bool, error) { told <- n; return false, nil })
	}()
	if n := <-told; n.Kind != CertificateSuccessor || n.Database != "orders" {
		t.Errorf("got %+v", n)
	}
	first, err := w.Audit(w.ctx, AuditQuery{Limit: 1000})
	w.done(first, err)
	for record, err := range w.Events(w.ctx, first[len(first)-1].ID) { // those before are given too
		if w.done(record, err); record.Action == "notice.sent" {
			break
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if left, _, err := w.store.List(w.ctx, keyNotices); err != nil || len(left) != 0 {
		t.Errorf("%d notices are left, %v", len(left), err)
	}
}
