package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/testkit/acmetest"
	"pgmtls-proxy/internal/testkit/eventually"
)

func TestEnhancedCertificates(t *testing.T) {
	t.Parallel()
	w := newPublicWorld(t, config.ACMENamesOpaque)
	in := func(name string, f func(*testing.T, *publicWorld)) {
		t.Run(name, func(t *testing.T) {
			before := w.world.t
			w.world.t = t
			defer func() { w.world.t = before }()
			f(t, w)
		})
	}
	in("are enabled when every proxy serves them, beside the private certificate", testEnhancedWithMutualTLS)
	in("let in by rules alone where there is no mutual TLS", testEnhancedWithoutMutualTLS)
	in("cost no order when they are enabled again", testEnhancedAgain)
	in("are renewed in one generation, and stay enabled", testEnhancedRenewal)
	in("are gone with their database", testEnhancedDeleted)
	in("are made although the first attempt to ask for them was lost", testEnhancedLost)
	in("are sealed under the first master key", testEnhancedResealed)
	in("may be brought", testEnhancedUploaded)
	in("are delivered once", testEnhancedDeliveredAgain)
	in("go on when the account gets another key", testEnhancedRollover)
	in("leave the policy when they end", testEnhancedExpired) // it moves the clock
}

func testEnhancedWithMutualTLS(t *testing.T, w *publicWorld) {
	w.operational("orders")
	if _, err := w.AddProxy(w.ctx, admin, "orders", NewProxy{Name: "edge-2"}); err != nil {
		t.Fatal(err)
	}
	w.rule("orders", "203.0.113.0/24")
	w.acknowledged("orders")
	w.done(w.EnableEnhanced(w.ctx, admin, "orders"))
	w.done(w.EnableEnhanced(w.ctx, admin, "orders")) // asked again
	db := w.delivered("orders")
	host := db.Enhanced.Host
	if strings.Contains(host, "orders") || !strings.HasSuffix(host, ".example.test") {
		t.Errorf("host %s", host)
	}
	if got := w.served("orders"); len(got) != 2 || got[0][0] != "orders.example.com" || !slices.Equal(got[1], []string{host}) {
		t.Errorf("served: %q", got)
	}
	text := w.policyText("orders")
	if !strings.Contains(text, "client_auth: required") || !strings.Contains(text, "default: true") || !strings.Contains(text, "203.0.113.0/24") {
		t.Errorf("policy:\n%s", text)
	}
	w.says(db, "edge", api.Report{Applied: db.Generation})
	status, err := w.EnhancedStatus(w.ctx, w.is("orders"))
	w.done(status, err)
	if status.Status != Provisioning || status.Reason != reasonDelivering || status.Detail != "waiting for edge-2" {
		t.Errorf("with one proxy of two: %+v", status)
	}
	if waiting := w.is("orders"); !slices.ContainsFunc(waiting.Waiting(), func(x Waiting) bool { return x.Kind == KindEnhanced && x.Until == AppliedWord }) {
		t.Errorf("waiting: %+v", waiting.Waiting())
	}
	if got := w.notices(outbox.ConnectionChanged); len(got) != 0 {
		t.Errorf("people were told too early: %+v", got)
	}
	w.says(db, "edge-2", api.Report{Applied: db.Generation}) // its sessions are still running
	status, err = w.EnhancedStatus(w.ctx, w.is("orders"))
	w.done(status, err)
	if status.Status != Enabled || status.Host != host || status.Reason != "" || !status.NotAfter.After(w.clock()) || !strings.Contains(status.Issuer, "Pebble") {
		t.Errorf("with both: %+v", status)
	}
	told := w.notices(outbox.ConnectionChanged)
	if len(told) != 1 || told[0].Public.URL != "postgres://"+host+":5432/?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt" ||
		told[0].Public.PreviousURL != "postgres://orders.example.com:5432/?sslmode=verify-full" || told[0].Database != "orders" {
		t.Errorf("told: %+v", told)
	}

	generation := w.is("orders").Generation
	w.done(w.DisableEnhanced(w.ctx, admin, "orders"))
	w.done(w.DisableEnhanced(w.ctx, admin, "orders"))
	db = w.is("orders")
	if db.Enhanced.Status != Deprovisioning || db.Generation != generation+1 {
		t.Errorf("disabled: generation %d after %d, %+v", db.Generation, generation, db.Enhanced)
	}
	if got := w.served("orders"); len(got) != 1 {
		t.Errorf("served: %q", got)
	}
	told = w.notices(outbox.ConnectionChanged)
	if len(told) != 2 || told[1].Public.URL != "postgres://orders.example.com:5432/?sslmode=verify-full" || !strings.Contains(told[1].Public.PreviousURL, host) {
		t.Errorf("told: %+v", told)
	}
	w.says(db, "edge", api.Report{Applied: db.Generation})
	w.says(db, "edge-2", api.Report{Applied: db.Generation})
	status, err = w.EnhancedStatus(w.ctx, w.is("orders"))
	w.done(status, err)
	if w.is("orders").Enhanced != nil || status.Status != EnhancedNone {
		t.Errorf("after every proxy: %+v", status)
	}
	for _, action := range []string{"acme.account", "enhanced_certificate.enable", "enhanced_certificate.order", "enhanced_certificate.issue",
		"enhanced_certificate.deliver", "enhanced_certificate.enabled", "enhanced_certificate.disable", "enhanced_certificate.disabled"} {
		if n := count(w.actions(), action); n != 1 {
			t.Errorf("the trail has %d records of %s", n, action)
		}
	}
}

func count(list []string, want string) (n int) {
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

// What is absent never opens the gate: mutual TLS that is gone leaves a database that lets nobody in, whatever it was
// before.
func testEnhancedWithoutMutualTLS(t *testing.T, w *publicWorld) {
	w.database("plain")
	if _, err := w.CreateRule(w.ctx, admin, "plain", NewRule{CIDR: "0.0.0.0/0"}); !problem.Is(err, problem.NotFound) {
		t.Errorf("a rule of a database that lets nobody in: %v", err)
	}
	w.enabled("plain")
	text := w.policyText("plain")
	if !strings.Contains(text, "client_auth: off") || !strings.Contains(text, "client_ca: []") || !strings.Contains(text, "identities: []") || !strings.Contains(text, "ip_rules: []") {
		t.Errorf("policy:\n%s", text)
	}
	rule := w.rule("plain", "198.51.100.0/24")
	if text = w.policyText("plain"); !strings.Contains(text, "198.51.100.0/24") {
		t.Errorf("policy:\n%s", text)
	}
	before := w.acknowledged("plain")

	// Nobody's way in ends with the public certificate.
	w.done(w.DisableEnhanced(w.ctx, admin, "plain"))
	if text = w.policyText("plain"); !strings.Contains(text, "client_auth: off") || !strings.Contains(text, "198.51.100.0/24") {
		t.Errorf("disabled:\n%s", text)
	}
	w.acknowledged("plain")
	w.enabled("plain")

	w.done(w.EnableMTLS(w.ctx, admin, "plain"))
	db := w.acknowledged("plain")
	if db.Enhanced.Status != Enabled || db.Enhanced.Host != before.Enhanced.Host || len(db.Rules) != 1 || db.Rules[0].ID != rule.ID || db.Server.ID != before.Server.ID {
		t.Errorf("mutual TLS changed something else: %+v", db)
	}
	if text = w.policyText("plain"); !strings.Contains(text, "client_auth: required") || strings.Contains(text, "client_ca: []") || strings.Contains(text, "client_crl: []") {
		t.Errorf("with mutual TLS:\n%s", text)
	}

	w.done(w.DisableMTLS(w.ctx, admin, "plain"))
	if _, err := w.EnableEnhanced(w.ctx, admin, "plain"); !problem.Is(err, problem.Conflict) {
		t.Errorf("while mutual TLS goes: %v", err)
	}
	db = w.acknowledged("plain")
	if text = w.policyText("plain"); db.MTLS != nil || !strings.Contains(text, "client_auth: required") || !strings.Contains(text, "ip_rules: []") {
		t.Errorf("without mutual TLS:\n%s", text)
	}
	if _, err := w.CreateRule(w.ctx, admin, "plain", NewRule{CIDR: "0.0.0.0/0"}); !problem.Is(err, problem.NotFound) {
		t.Errorf("a rule after mutual TLS was destroyed: %v", err)
	}
	w.done(w.EnableEnhanced(w.ctx, admin, "plain")) // asked for again, on a database without mutual TLS
	if text = w.policyText("plain"); !strings.Contains(text, "client_auth: off") || !strings.Contains(text, "ip_rules: []") {
		t.Errorf("asked for again:\n%s", text)
	}
	rule = w.rule("plain", "192.0.2.0/24")
	refused(t, w.DeleteDatabase(w.ctx, admin, "plain"), problem.Conflict, "still has 1 IP rules")
	w.done(w.DeleteRule(w.ctx, admin, "plain", rule.ID))
	refused(t, w.DeleteDatabase(w.ctx, admin, "plain"), problem.Conflict, "still has 1 IP rules") // its sessions may be running
	w.acknowledged("plain")
	w.done(nil, w.DeleteDatabase(w.ctx, admin, "plain"))
}

func testEnhancedAgain(t *testing.T, w *publicWorld) {
	w.operational("again")
	first := w.enabled("again")
	orders := w.faults.Requests(acmetest.NewOrderPath)
	w.done(w.DisableEnhanced(w.ctx, admin, "again"))
	w.done(w.EnableEnhanced(w.ctx, admin, "again")) // before any proxy knows that it was disabled
	if db := w.is("again"); db.Enhanced.Leaf == nil || db.Enhanced.Status != Provisioning {
		t.Errorf("enabled again: %+v", db.Enhanced)
	}
	w.acknowledged("again")
	w.done(w.DisableEnhanced(w.ctx, admin, "again"))
	w.acknowledged("again")
	w.done(w.Reconcile(w.ctx))
	again := w.enabled("again")
	if again.Enhanced.Leaf.Serial != first.Enhanced.Leaf.Serial || again.Enhanced.Host != first.Enhanced.Host {
		t.Errorf("another certificate: %+v, before it was %+v", again.Enhanced.Leaf, first.Enhanced.Leaf)
	}
	if n := w.faults.Requests(acmetest.NewOrderPath); n != orders {
		t.Errorf("%d orders more", n-orders)
	}
}

func testEnhancedRenewal(t *testing.T, w *publicWorld) {
	w.operational("renewed")
	first := w.enabled("renewed")
	w.done(w.RenewEnhanced(w.ctx, admin, "renewed", true))
	eventually.OK(t, patience, func() error {
		if db := w.is("renewed"); db.Enhanced.Leaf.Serial == first.Enhanced.Leaf.Serial {
			return eventually.ErrNotYet
		}
		return nil
	})
	db := w.is("renewed")
	if db.Enhanced.Status != Enabled || db.Generation != first.Generation+1 {
		t.Errorf("generation %d after %d, %+v", db.Generation, first.Generation, db.Enhanced)
	}
	if _, err := w.docs.Get(w.ctx, keyLeaves+first.Enhanced.Leaf.ID); err == nil {
		t.Error("the key of the old one is still kept")
	}
	w.done(w.Reconcile(w.ctx))
	cert, err := w.public.Manager.Certificate(w.ctx, db.ID)
	w.done(cert, err)
	if cert.Revoke == nil || cert.RevokeNow {
		t.Errorf("revoked before its proxies have the new one: %+v", cert)
	}
	w.acknowledged("renewed")
	w.done(w.Reconcile(w.ctx))
	eventually.OK(t, patience, func() error {
		if count(w.actions(), "enhanced_certificate.revoke") == 0 {
			return eventually.ErrNotYet
		}
		return nil
	})
	if _, err := w.RenewEnhanced(w.ctx, admin, "orders", false); !problem.Is(err, problem.NotFound) {
		t.Errorf("renewed what is disabled: %v", err)
	}
}

func testEnhancedDeleted(t *testing.T, w *publicWorld) {
	w.operational("deleted")
	db := w.enabled("deleted")
	w.done(w.DisableMTLS(w.ctx, admin, "deleted"))
	w.acknowledged("deleted")
	w.done(nil, w.DeleteDatabase(w.ctx, admin, "deleted"))
	eventually.OK(t, patience, func() error {
		items, _, err := w.docs.List(w.ctx, "")
		for _, item := range items {
			if err == nil && !strings.HasPrefix(item.Key, "audit/") && !strings.HasPrefix(item.Key, "notices/") &&
				(strings.Contains(item.Key, db.ID) || strings.Contains(item.Key, db.Enhanced.Leaf.ID) || strings.Contains(item.Key, db.Enhanced.Leaf.Source)) && !strings.HasPrefix(item.Key, keyRevoked) {
				err = fmt.Errorf("%s is left", item.Key)
			}
		}
		return err
	})
}

// The document says what is wanted, and the reconciler makes the rest follow from it.
func testEnhancedLost(t *testing.T, w *publicWorld) {
	w.operational("lost")
	w.faults.Fail(acmetest.NewOrderPath, 1, acmetest.Problem(503, "serverInternal", "down for a moment", "Retry-After", "1"))
	w.done(w.change(w.ctx, admin, "lost", func(c *change) (err error) { // as a daemon leaves it that is killed after the commit
		c.db.Enhanced, err = c.newEnhanced()
		return err
	}))
	status, err := w.EnhancedStatus(w.ctx, w.is("lost"))
	w.done(status, err)
	if status.Status != Provisioning || status.Reason != "queued" {
		t.Errorf("%+v", status)
	}
	w.done(w.Reconcile(w.ctx))
	w.delivered("lost")

	// So does one that nobody wants, and that was not given up.
	db := w.is("lost")
	w.done(w.change(w.ctx, admin, "lost", func(c *change) error { c.dropLeaf(); c.db.Enhanced = nil; return nil }))
	w.done(w.Reconcile(w.ctx))
	cert, err := w.public.Manager.Certificate(w.ctx, db.ID)
	w.done(cert, err)
	if cert.RemovedAt.IsZero() || cert.Purge {
		t.Errorf("%+v", cert)
	}
}

func testEnhancedResealed(t *testing.T, w *publicWorld) {
	db := w.is("renewed")
	next := seal.Generate()
	docs := *w.docs
	docs.Ring = docstoretest.Ring(t, append(slices.Clone(next), w.master...))
	other := New(Options{Docs: &docs, Audit: w.trail, Outbox: w.outbox, Now: w.clock, Log: docstoretest.Log(t)}) // without an authority
	if n, err := other.Reseal(w.ctx); err != nil || n == 0 {
		t.Fatalf("%d keys, %v", n, err)
	}
	docs.Ring = docstoretest.Ring(t, next)
	if _, err := other.Policy(w.ctx, db.ID); err != nil {
		t.Errorf("under the next key alone: %v", err)
	}
	items, _, err := w.docs.List(w.ctx, "")
	w.done(items, err)
	sealed := 0
	for _, item := range items {
		for _, prefix := range []string{"acme-account-keys/", "acme-keys/"} {
			if strings.HasPrefix(item.Key, prefix) {
				if sealed++; docs.Ring.Stale(item.Value) {
					t.Errorf("%s is sealed under the old key", item.Key)
				}
			}
		}
		if strings.HasPrefix(item.Key, "public-leaves/") {
			var record leafRecord
			if w.done(nil, json.Unmarshal(item.Value, &record)); docs.Ring.Stale(record.Key) {
				t.Errorf("%s is sealed under the old key", item.Key)
			}
			sealed++
		}
	}
	if sealed < 2 {
		t.Errorf("%d secrets of the authority's records", sealed)
	}
	w.docs.Ring = docstoretest.Ring(t, append(slices.Clone(w.master), next...)) // for the tests that follow
}

// One certificate that has ended must not be what a proxy stumbles over: rules and revocations go on.
func testEnhancedExpired(t *testing.T, w *publicWorld) {
	w.operational("expired")
	w.rule("expired", "203.0.113.0/24")
	db := w.enabled("expired")
	w.stop()
	w.ahead.Store(int64(time.Until(db.Enhanced.Leaf.NotAfter) - time.Minute))
	w.done(w.Reconcile(w.ctx))
	db = w.is("expired")
	if db.Enhanced.Leaf != nil || db.Enhanced.Status != Provisioning {
		t.Errorf("%+v", db.Enhanced)
	}
	if got := w.served("expired"); len(got) != 1 {
		t.Errorf("served: %q", got)
	}
	w.done(w.Reconcile(w.ctx))
	if again := w.is("expired"); again.Enhanced.Leaf != nil || again.Generation != db.Generation {
		t.Errorf("it is back in the policy: %+v", again.Enhanced)
	}
	w.done(w.CreateRule(w.ctx, admin, "expired", NewRule{CIDR: "192.0.2.0/24"}))
	if text := w.policyText("expired"); !strings.Contains(text, "192.0.2.0/24") || !strings.Contains(text, "203.0.113.0/24") {
		t.Errorf("policy:\n%s", text)
	}
	if n := count(w.actions(), "enhanced_certificate.expired"); n == 0 {
		t.Error("it is not in the trail")
	}
}

func TestWithoutAnAuthorityEnablingSaysWhatToSet(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	_, err := w.EnableEnhanced(w.ctx, admin, "orders")
	refused(t, err, problem.Conflict, "add an acme block to pgmtls.yaml")
	_, err = w.RenewEnhanced(w.ctx, admin, "orders", false)
	refused(t, err, problem.Conflict, "add an acme block to pgmtls.yaml")
	if db := w.is("orders"); db.Enhanced != nil || db.ClientAuthOff {
		t.Errorf("%+v", db)
	}
	w.done(w.DisableEnhanced(w.ctx, admin, "orders"))
}
