package registry

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

func TestDatabaseNeedsGoodNames(t *testing.T) {
	w := newWorld(t)
	w.database("orders")
	for _, test := range []struct {
		new  NewDatabase
		want string
	}{
		{NewDatabase{Name: "Orders", Hosts: []string{"a.example.com"}}, "lower-case letters"},
		{NewDatabase{Name: "orders", Hosts: []string{"a.example.com"}}, "database orders already exists"},
		{NewDatabase{Name: newID(), Hosts: []string{"a.example.com"}}, "is not a valid name"},
		{NewDatabase{Name: "db-1"}, "needs a host name"},
		{NewDatabase{Name: "db-1", Hosts: []string{"a b"}}, "neither a DNS name nor"},
		{NewDatabase{Name: "db-1", Hosts: []string{"a.example.com"}, Port: 70000}, "port 70000"},
		{NewDatabase{Name: "db-1", Hosts: []string{"a.example.com"}, Proxies: []NewProxy{{Name: "p1"}, {Name: "p1"}}}, "p1 already exists"},
		{NewDatabase{Name: "db-1", Hosts: []string{"a.example.com"}, Proxies: []NewProxy{{Name: "p1", PolicyDir: "/x"}}}, "needs both"},
		{NewDatabase{Name: "db-1", Hosts: []string{"a.example.com"}, BackendNote: "\x1b[31m"}, "unprintable character"},
	} {
		_, err := w.CreateDatabase(w.ctx, admin, test.new)
		refused(t, err, problem.InvalidParams, test.want)
	}
	if n := len(w.actions()); n != 1 {
		t.Errorf("%d audit records, want that of the one database", n)
	}
}

func TestMutualTLSIsOperationalWhenEveryProxyFollows(t *testing.T) {
	w := newWorld(t)
	db := w.database("orders")
	w.done(w.AddProxy(w.ctx, admin, "orders", NewProxy{Name: "second"}))
	db, err := w.EnableMTLS(w.ctx, admin, "orders")
	if err != nil || db.MTLS.Status != Provisioning || db.MTLS.EnabledBy != "admin" || len(db.Certificates) != 1 || db.Certificates[0].Status != Pending {
		t.Fatalf("got %+v, %v", db, err)
	}
	w.says(db, "edge", api.Report{Applied: 1, InForce: 1})
	if got := w.is("orders"); got.MTLS.Status != Provisioning {
		t.Errorf("one of two proxies follows, and mutual TLS is %s", got.MTLS.Status)
	}
	w.says(db, "second", api.Report{Applied: 1})
	if got := w.is("orders"); got.MTLS.Status != Operational || got.Certificates[0].Status != Ready {
		t.Errorf("both follow, and mutual TLS is %s, the certificate %s", got.MTLS.Status, got.Certificates[0].Status)
	}
	_, err = w.EnableMTLS(w.ctx, admin, "orders")
	refused(t, err, problem.Conflict, "already")
}

func TestNothingIsInForceWithoutProxies(t *testing.T) {
	w := newWorld(t)
	w.database("orders")
	w.done(w.EnableMTLS(w.ctx, admin, "orders"))
	db, err := w.RemoveProxy(w.ctx, admin, "orders", "edge")
	if err != nil || db.MTLS.Status != Provisioning {
		t.Errorf("mutual TLS is %s, %v", db.MTLS.Status, err)
	}
}

func TestRuleWaitsForEveryProxyAndGoesWhenTheLastSessionHasEnded(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	rule := w.rule("orders", "203.0.113.0/24")
	if rule.Status != Authorizing || rule.Generation != db.Generation+1 {
		t.Errorf("a new rule is %s with generation %d", rule.Status, rule.Generation)
	}
	w.acknowledged("orders")
	if got := w.is("orders").Rules[0]; got.Status != Authorized || got.ID != rule.ID {
		t.Errorf("got %+v", got)
	}
	if text := w.policyText("orders"); !strings.Contains(text, "203.0.113.0/24") {
		t.Errorf("the policy lacks the rule:\n%s", text)
	}
	deleted, err := w.DeleteRule(w.ctx, admin, "orders", rule.ID)
	if err != nil || deleted.Status != Deauthorizing {
		t.Fatalf("got %+v, %v", deleted, err)
	}
	if text := w.policyText("orders"); strings.Contains(text, "203.0.113.0/24") {
		t.Errorf("the policy still has the rule:\n%s", text)
	}
	again := w.rule("orders", "203.0.113.0/24") // at once
	w.says(db, "edge", api.Report{Applied: again.Generation, InForce: deleted.Generation - 1})
	if got := w.is("orders"); len(got.Rules) != 2 {
		t.Errorf("sessions are left, and there are %d rules", len(got.Rules))
	}
	w.says(db, "edge", api.Report{Applied: again.Generation, InForce: again.Generation})
	if got := w.is("orders"); len(got.Rules) != 1 || got.Rules[0].ID != again.ID || got.Rules[0].Status != Authorized {
		t.Errorf("got %+v", got.Rules)
	}
}

func TestRuleThatCanNotBeSaysWhy(t *testing.T) {
	w := newWorld(t)
	_, err := w.CreateRule(w.ctx, admin, "none", NewRule{CIDR: "192.0.2.1/32"})
	refused(t, err, problem.NotFound, `"none"`)
	w.database("orders")
	_, err = w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: "192.0.2.1/32"})
	refused(t, err, problem.NotFound, "no mutual TLS")
	w.done(w.EnableMTLS(w.ctx, admin, "orders"))
	w.rule("orders", "192.0.2.0/24")
	for _, test := range []struct {
		new  NewRule
		want string
	}{
		{NewRule{CIDR: "192.0.2.0/24"}, "already has a rule"},
		{NewRule{CIDR: "10.0.0.1/8"}, "host bits"},
		{NewRule{CIDR: "10.0.0.1"}, "10.0.0.1/32"},
		{NewRule{CIDR: ""}, "empty"},
		{NewRule{CIDR: "10.0.0.0/8", Description: strings.Repeat("x", 257)}, "257 bytes"},
		{NewRule{CIDR: "10.0.0.0/8", ExpiresAt: w.at}, "is in the past"},
	} {
		_, err := w.CreateRule(w.ctx, admin, "orders", test.new)
		refused(t, err, problem.InvalidParams, test.want)
	}
	for n := 1; n < MaxRules; n++ {
		w.rule("orders", fmt.Sprintf("198.51.100.%d/32", n))
	}
	_, err = w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: "10.0.0.0/8"})
	refused(t, err, problem.InvalidParams, "the maximum is 60")
	// One that is being deleted makes room at once.
	w.done(w.DeleteRule(w.ctx, admin, "orders", w.is("orders").Rules[5].ID))
	w.rule("orders", "10.0.0.0/8")
	_, err = w.DeleteRule(w.ctx, admin, "orders", newID())
	refused(t, err, problem.NotFound, "no IP rule")
}

func TestRevokedCertificateIsDisabledWhenItsSessionsHaveEnded(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "billing"})
	if err != nil || cert.Status != Ready { // the authority is trusted already
		t.Fatalf("got %+v, %v", cert, err)
	}
	if months := cert.ExpiresAt.Sub(w.at.AddDate(0, 13, 0)).Abs(); months > time.Second {
		t.Errorf("the certificate ends at %s", cert.ExpiresAt)
	}
	files, err := w.CertificateFiles(w.ctx, "orders", cert.ID)
	if err != nil || !strings.Contains(files.KeyPEM, "PRIVATE KEY") || !strings.Contains(files.RootsPEM, "CERTIFICATE") {
		t.Errorf("got %+v", files)
	}
	before := w.policyText("orders")
	cert, err = w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0)
	if err != nil || cert.Status != Disabling || w.policyText("orders") == before {
		t.Fatalf("got %+v, %v", cert, err)
	}
	w.says(db, "edge", api.Report{Applied: cert.Generation, InForce: cert.Generation - 1})
	if got := w.certificate("orders", cert.ID); got.Status != Disabling {
		t.Errorf("a session is left, and the certificate is %s", got.Status)
	}
	w.acknowledged("orders")
	if got := w.certificate("orders", cert.ID); got.Status != Disabled {
		t.Errorf("the certificate is %s", got.Status)
	}
	_, err = w.CertificateFiles(w.ctx, "orders", cert.ID)
	refused(t, err, problem.NotFound, "no client certificate")
	if _, err := w.docs.Get(w.ctx, keyLeaves+cert.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the key is still there: %v", err)
	}
	_, err = w.KeepCertificate(w.ctx, admin, "orders", cert.ID)
	refused(t, err, problem.Conflict, "can't be reinstated")
}

func TestDeleteAfterAWhileCanBeTakenBack(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	id := db.Certificates[0].ID
	cert, err := w.DeleteCertificate(w.ctx, admin, "orders", id, 24*time.Hour)
	if err != nil || cert.Status != Ready || !cert.DisableAt.Equal(w.at.Add(24*time.Hour)) {
		t.Fatalf("got %+v, %v", cert, err)
	}
	if next := w.due(); next.After(cert.DisableAt) {
		t.Errorf("next due at %s, after %s", next, cert.DisableAt)
	}
	if cert, err = w.KeepCertificate(w.ctx, admin, "orders", id); err != nil || !cert.DisableAt.IsZero() {
		t.Fatalf("got %+v, %v", cert, err)
	}
	w.at = w.at.Add(25 * time.Hour)
	w.due()
	if got := w.certificate("orders", id); got.Status != Ready {
		t.Fatalf("a certificate that was kept is %s", got.Status)
	}
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", id, time.Hour))
	w.at = w.at.Add(time.Hour)
	w.due()
	if got := w.certificate("orders", id); got.Status != Disabling {
		t.Errorf("an hour later the certificate is %s", got.Status)
	}
}

func TestDestroyedMutualTLSLetsNobodyInAndCanBeCreatedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.rule("orders", "203.0.113.0/24")
	old := w.is("orders").Certificates[0]
	db, err := w.DisableMTLS(w.ctx, admin, "orders")
	if err != nil || db.MTLS.Status != Deprovisioning || len(db.Certificates)+len(db.Rules) != 0 {
		t.Fatalf("got %+v, %v", db, err)
	}
	if text := w.policyText("orders"); !strings.Contains(text, "ip_rules: []") {
		t.Errorf("somebody is let in:\n%s", text)
	}
	refused(t, w.DeleteDatabase(w.ctx, admin, "orders"), problem.Conflict, "destroy it first")
	db, err = w.EnableMTLS(w.ctx, admin, "orders")
	if err != nil || db.MTLS.Status != Provisioning || len(db.Certificates) != 1 || db.Certificates[0].ID == old.ID {
		t.Fatalf("got %+v, %v", db, err)
	}
	if all := w.allRevoked(); len(all) != 1 || all[0].Serial != old.Serial {
		t.Errorf("the old certificate is not on the revocation list: %+v", all)
	}
	w.revoked("orders", old)
	w.acknowledged("orders")
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	if db = w.acknowledged("orders"); db.MTLS != nil {
		t.Errorf("in force everywhere, and mutual TLS is %s", db.MTLS.Status)
	}
	if err := w.DeleteDatabase(w.ctx, admin, "orders"); err != nil {
		t.Error(err)
	}
	_, err = w.Database(w.ctx, "orders")
	refused(t, err, problem.NotFound, "orders")
	w.database("orders") // the name is free
}

// The proxies show it in their metrics.
func TestPolicyNamesItsDatabase(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	if got := config.HeaderName([]byte(w.policyText("orders"))); got != "orders" {
		t.Errorf("the header names %q", got)
	}
}

func TestSameGenerationIsTheSameBytes(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	w.operational("other")
	first := w.policyText("orders")
	// What happens to another database of the space changes nothing here, its revocations neither.
	w.done(w.DeleteCertificate(w.ctx, admin, "other", w.is("other").Certificates[0].ID, 0))
	w.due()
	if got := w.is("orders"); got.Generation != db.Generation || w.policyText("orders") != first {
		t.Errorf("generation %d became %d; before:\n%s\nafter:\n%s", db.Generation, got.Generation, first, w.policyText("orders"))
	}
}

func TestStoreOlderThanAProxyMakesANewerGeneration(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	rule := w.rule("orders", "203.0.113.0/24")
	w.says(db, "edge", api.Report{Applied: 900, InForce: 900})
	got := w.is("orders")
	if got.Generation != 901 || got.Rules[0].Status != Authorizing {
		t.Errorf("generation %d, rule %s", got.Generation, got.Rules[0].Status)
	}
	w.acknowledged("orders")
	if got := w.is("orders").Rules[0]; got.ID != rule.ID || got.Status != Authorized {
		t.Errorf("the rule is %s", got.Status)
	}
	refused(t, w.Acknowledge(w.ctx, db.ID, "edge", api.Report{Applied: 1, InForce: 2}), problem.InvalidParams, "inconsistent report")
	for _, lie := range []api.Report{{Applied: 1 << 53}, {OnDisk: 1 << 53}, {Applied: math.MaxInt64}} {
		refused(t, w.Acknowledge(w.ctx, db.ID, "edge", lie), problem.InvalidParams, "the newest is")
	}
	if got := w.is("orders").Generation; got != 901 {
		t.Errorf("who lies has lifted the generation to %d", got)
	}
	refused(t, w.Acknowledge(w.ctx, db.ID, "nobody", api.Report{Applied: 1}), problem.NotFound, "nobody")
}

func TestChangesAtTheSameTimeAreAllDoneOrRefused(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	other := w.another(w.docs) // as of another daemon
	var group sync.WaitGroup
	var mu sync.Mutex
	made, full := 0, 0
	for n := range 80 {
		group.Go(func() {
			r := []*Registry{w.Registry, other}[n%2]
			_, err := r.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: fmt.Sprintf("198.51.100.%d/32", n)})
			mu.Lock()
			defer mu.Unlock()
			var refusal *problem.Error
			switch {
			case err == nil:
				made++
			case errors.As(err, &refusal) && refusal.ID == problem.InvalidParams:
				full++
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if made != MaxRules || full != 80-MaxRules || len(w.is("orders").Rules) != MaxRules {
		t.Errorf("%d rules were made, %d refused, %d are there", made, full, len(w.is("orders").Rules))
	}
}

func TestAuditTellsWhoDidWhatAndFromWhere(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.rule("orders", "203.0.113.0/24")
	w.acknowledged("orders")
	got := w.actions()
	for _, want := range []string{"database.create", "ca.create", "server_certificate.issue", "mtls.create", "certificate.create", "mtls.operational",
		"certificate.ready", "ip_rule.create", "ip_rule.authorized"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
	records, err := w.trail.List(w.ctx, audit.Query{Action: "ip_rule.", Limit: 10})
	if err != nil || len(records) != 2 || records[0].Actor != "system" || records[1].Actor != "admin" ||
		records[1].Address != "127.0.0.1" || records[1].RequestID != "r-1" || records[1].Detail["cidr"] != "203.0.113.0/24" {
		t.Errorf("got %+v, %v", records, err)
	}
	older, err := w.trail.List(w.ctx, audit.Query{Before: records[1].ID, Limit: 1000})
	if err != nil || len(older) != len(got)-2 {
		t.Errorf("%d older records, %v; want %d", len(older), err, len(got)-2)
	}
}

func TestOfTooManyCertificatesTheLastSeenAreKept(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	seen := make(map[string]api.Usage)
	for n := range maxUsage + 100 {
		seen[fmt.Sprintf("%04x", n)] = api.Usage{LastSeen: w.at.Add(time.Duration(n) * time.Second)}
	}
	for range 2 { // the second report adds nothing and drops nothing
		w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Certificates: seen})
		kept, err := w.usage(w.ctx, db.ID, Observation{})
		_, oldest := kept[fmt.Sprintf("%04x", 100)]
		if _, older := kept[fmt.Sprintf("%04x", 99)]; err != nil || len(kept) != maxUsage || !oldest || older {
			t.Errorf("%d are kept, %v", len(kept), err)
		}
	}
}
