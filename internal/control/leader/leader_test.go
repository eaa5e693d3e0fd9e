package leader

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/registry/registrytest"
)

// The clock here is the real one: what is to be seen is that the leader wakes in time.
func TestLeaderWakesForWhatAChangeBringsForward(t *testing.T) {
	w := registrytest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	if _, err := w.CreateDatabase(ctx, registrytest.Admin, registry.NewDatabase{Name: "orders", Hosts: []string{"orders.example.com"}}); err != nil {
		t.Fatal(err)
	}
	db, err := w.EnableMTLS(ctx, registrytest.Admin, "orders")
	if err != nil {
		t.Fatal(err)
	}
	hub := informer.New(w.Docs, w.Log)
	ended := make(chan error, 2)
	go func() { ended <- hub.Run(ctx) }()
	go func() { ended <- Loop{Registry: w.Registry, Hub: hub, Log: w.Log}.Run(ctx) }()
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
			if _, err := w.DeleteCertificate(ctx, registrytest.Admin, "orders", id, after); err != nil {
				t.Fatal(err)
			}
		case change.Database.Certificates[i].Status == registry.Disabling:
			if took := time.Since(asked); took < after || took > atMost/2 {
				t.Errorf("it was revoked after %s, not after %s", took, after)
			}
			return
		}
	}
	t.Error("it was never revoked")
}
