package registry

import (
	"testing"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/testkit/acmetest"
)

// A certificate that a space shares goes to each of its databases, and is given up with the last.
func TestSpaceWildcardIsOneCertificateForAllDatabasesOfASpace(t *testing.T) {
	t.Parallel()
	w := newPublicWorld(t, config.ACMENamesSpace)
	w.operational("one")
	w.operational("two")
	one, two := w.enabled("one"), w.enabled("two")
	if one.Enhanced.Host != "one.acme.example.test" || two.Enhanced.Host != "two.acme.example.test" || one.Enhanced.Leaf.Serial != two.Enhanced.Leaf.Serial {
		t.Errorf("%+v and %+v", one.Enhanced, two.Enhanced)
	}
	if got := w.served("two"); len(got) != 2 || got[1][0] != "*.acme.example.test" {
		t.Errorf("served: %q", got)
	}
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 1 {
		t.Errorf("%d orders", n)
	}
	is := func() acme.Certificate {
		cert, err := w.public.Manager.Certificate(w.ctx, "space:acme")
		w.done(cert, err)
		return cert
	}
	w.done(w.DisableEnhanced(w.ctx, admin, "one"))
	w.done(w.Reconcile(w.ctx))
	if cert := is(); !cert.RemovedAt.IsZero() {
		t.Error("it was given up with the first of two")
	}
	if db := w.acknowledged("two"); db.Enhanced.Status != Enabled {
		t.Errorf("two: %+v", db.Enhanced)
	}
	w.done(w.DisableEnhanced(w.ctx, admin, "two"))
	w.done(w.Reconcile(w.ctx))
	if cert := is(); cert.RemovedAt.IsZero() {
		t.Error("nobody wants it, and it is still renewed")
	}
}

func TestPublicNameIsNoNameOfThePrivateCertificate(t *testing.T) {
	db := &Database{ID: newID(), Name: "orders", Space: "acme", Hosts: []string{"orders.pg.example.com", "10.0.0.1"}}
	public := Public{Zone: "pg.example.com", Names: config.ACMENamesDatabase}
	_, _, _, err := public.names(db)
	refused(t, err, problem.Conflict, "orders.pg.example.com is a name of the private certificate")
	for names, want := range map[config.ACMENames]string{config.ACMENamesSpace: "orders.acme.pg.example.com", config.ACMENamesOpaque: opaqueLabel(db.ID) + ".pg.example.com"} {
		public.Names = names
		if host, _, _, err := public.names(db); err != nil || host != want {
			t.Errorf("%s: %s, %v", names, host, err)
		}
	}
	if a, b := opaqueLabel(db.ID), opaqueLabel(newID()); a == b || len(a) != len("db-")+16 || a != opaqueLabel(db.ID) {
		t.Errorf("%s and %s", a, b)
	}
	if err := acme.CheckName(opaqueLabel(db.ID) + ".pg.example.com"); err != nil {
		t.Error(err)
	}
}
