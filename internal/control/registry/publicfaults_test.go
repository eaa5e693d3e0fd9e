package registry

import (
	"context"
	"slices"
	"testing"
	"time"
)

// As with everything else, the store can be lost at any moment. The authority answers nobody here.
func TestWhatFailsForAPublicCertificateIsDoneWholeOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w.ctx = ctx
	w.withAway()
	w.operational("orders")
	w.database("open")
	for _, name := range []string{"orders", "open"} { // with mutual TLS, and with rules alone
		id := w.is(name).ID
		w.throughFaults("enable", func(ctx context.Context, _ int) error { _, err := w.EnableEnhanced(ctx, admin, name); return err })
		w.throughFaults("look", func(ctx context.Context, _ int) error {
			db, err := w.Database(ctx, name)
			if err == nil {
				_, err = w.EnhancedStatus(ctx, db)
			}
			if err == nil {
				_, err = w.EnhancedRecords(ctx, db)
			}
			if err == nil {
				_, err = w.PublicStatus(ctx)
			}
			return err
		})
		w.throughFaults("do what is due", func(ctx context.Context, _ int) error { _, err := w.Reconcile(ctx); return err })
		w.throughFaults("renew", func(ctx context.Context, _ int) error { _, err := w.RenewEnhanced(ctx, admin, name, false); return err })
		w.throughFaults("disable", func(ctx context.Context, _ int) error { _, err := w.DisableEnhanced(ctx, admin, name); return err })
		if got := w.is(name); got.Enhanced != nil {
			t.Errorf("%s is left with %+v", name, got.Enhanced)
		}
		w.throughFaults("forget", func(ctx context.Context, _ int) error { _, err := w.Reconcile(ctx); return err })
		if cert, err := w.public.Manager.Certificate(w.ctx, id); err == nil && cert.RemovedAt.IsZero() {
			t.Errorf("the certificate of %s is still wanted", name)
		}
	}
	for _, action := range []string{"enhanced_certificate.enable", "enhanced_certificate.disable"} {
		if !slices.Contains(w.actions(), action) {
			t.Errorf("no record of %s: %q", action, w.actions())
		}
	}
}
