package leader

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/registry"
)

// The clock here is the real one: what is to be seen is that the leader wakes in time.
func TestLeaderWakesForWhatAChangeBringsForward(t *testing.T) {
	docs, log := docstoretest.Open(t), docstoretest.Log(t)
	trail := audit.New(docs, nil)
	r := registry.New(registry.Options{Docs: docs, Audit: trail, Outbox: outbox.New(outbox.Options{Docs: docs, Audit: trail, Log: log}), Log: log})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	admin := audit.Actor{Name: "admin"}
	if _, err := r.CreateDatabase(ctx, admin, registry.NewDatabase{Name: "orders", Hosts: []string{"orders.example.com"}}); err != nil {
		t.Fatal(err)
	}
	db, err := r.EnableMTLS(ctx, admin, "orders")
	if err != nil {
		t.Fatal(err)
	}
	hub := informer.New(docs, log)
	ended := make(chan error, 2)
	go func() { ended <- hub.Run(ctx) }()
	go func() { ended <- Loop{Registry: r, Hub: hub, Log: log}.Run(ctx) }()
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
	for change := range hub.FollowAll(ctx) {
		i := slices.IndexFunc(change.Database.Certificates, func(c registry.Certificate) bool { return c.ID == id })
		switch {
		case asked.IsZero():
			asked = time.Now()
			if _, err := r.DeleteCertificate(ctx, admin, "orders", id, after); err != nil {
				t.Fatal(err)
			}
		case change.Database.Certificates[i].Status == registry.Disabling:
			if took := time.Since(asked); took < after || took > 10*time.Second {
				t.Errorf("it was revoked after %s, not after %s", took, after)
			}
			return
		}
	}
	t.Error("it was never revoked")
}
