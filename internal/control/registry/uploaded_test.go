package registry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/testkit/acmetest"
	"pgmtls-proxy/internal/testkit/testpki"
)

// brought is a certificate that somebody else has issued, for so long.
func brought(t *testing.T, life time.Duration, names ...string) UploadedCertificate {
	t.Helper()
	template := testpki.Server(names...)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(life)
	pair := testpki.MustCA(t, "somebody's CA").MustIssue(t, template)
	return UploadedCertificate{CertificatePEM: pair.CertPEM, KeyPEM: pair.KeyPEM}
}

func testEnhancedUploaded(t *testing.T, w *publicWorld) {
	w.operational("brought")
	first := w.enabled("brought") // by the authority
	orders := w.faults.Requests(acmetest.NewOrderPath)
	w.done(w.UploadEnhanced(w.ctx, admin, "brought", brought(t, 90*24*time.Hour, "*.example.org", "db.example.org")))
	db := w.is("brought")
	if e := db.Enhanced; e.Host != "db.example.org" || e.Status != Provisioning || db.Generation != first.Generation+1 {
		t.Errorf("%+v", e)
	}
	if got := w.served("brought"); len(got) != 2 || !slices.Contains(got[1], "db.example.org") {
		t.Errorf("served: %q", got)
	}
	db = w.acknowledged("brought")
	status, err := w.EnhancedStatus(w.ctx, db)
	w.done(status, err)
	if status.Status != Enabled || !status.Uploaded || status.Reason != "" {
		t.Errorf("%+v", status)
	}
	told := w.notices(outbox.ConnectionChanged)
	if last := told[len(told)-1]; !strings.Contains(last.Public.URL, "//db.example.org:") {
		t.Errorf("told: %+v", last.Public)
	}
	w.done(w.Reconcile(w.ctx))
	if cert, err := w.public.Manager.Certificate(w.ctx, db.ID); err != nil || cert.RemovedAt.IsZero() {
		t.Errorf("the authority's is still renewed: %+v, %v", cert, err)
	}
	w.done(w.EnableEnhanced(w.ctx, admin, "brought")) // it is enabled
	if again := w.is("brought"); again.Generation != db.Generation || w.faults.Requests(acmetest.NewOrderPath) != orders {
		t.Errorf("enabling replaced it: %+v", again.Enhanced)
	}
	_, err = w.RenewEnhanced(w.ctx, admin, "brought", false)
	refused(t, err, problem.Conflict, "upload its successor")

	// The successor, for the same name.
	next := brought(t, 20*24*time.Hour, "db.example.org")
	w.done(w.UploadEnhanced(w.ctx, admin, "brought", next))
	w.done(w.UploadEnhanced(w.ctx, admin, "brought", next)) // again
	if e := w.is("brought").Enhanced; e.Status != Enabled || len(e.Names) != 1 {
		t.Errorf("%+v", e)
	}
	w.done(w.Reconcile(w.ctx))
	w.done(w.Reconcile(w.ctx))
	if got := w.notices(outbox.EnhancedEnding); len(got) != 1 || got[0].Public.Host != "db.example.org" { // of the 30 days
		t.Errorf("told of the end: %+v", got)
	}
	generation := w.is("brought").Generation
	w.acknowledged("brought")
	w.done(w.DisableEnhanced(w.ctx, admin, "brought"))
	if db := w.acknowledged("brought"); db.Enhanced != nil || db.Generation != generation+1 {
		t.Errorf("disabled: %+v", db)
	}
}

func TestUploadedCertificateIsCheckedAsProxiesCheckIt(t *testing.T) {
	w := newWorld(t)
	w.at = time.Now()
	w.operational("orders")
	good := brought(t, 24*time.Hour, "db.example.org")
	for name, c := range map[string]struct {
		u    UploadedCertificate
		want string
	}{
		"no PEM":             {UploadedCertificate{CertificatePEM: []byte("x"), KeyPEM: good.KeyPEM}, "certificate: it is not a list of certificates in PEM"},
		"no key":             {UploadedCertificate{CertificatePEM: good.CertificatePEM}, "private_key: "},
		"another key":        {UploadedCertificate{CertificatePEM: good.CertificatePEM, KeyPEM: brought(t, time.Hour, "x.example.org").KeyPEM}, "for another key"},
		"one that has ended": {brought(t, -time.Minute, "db.example.org"), "it ended at"},
		"one that ends now":  {brought(t, time.Minute, "db.example.org"), "bring one that lasts"},
		"without a name":     {brought(t, time.Hour, "192.0.2.1"), "has no DNS name"},
		"another host":       {UploadedCertificate{CertificatePEM: good.CertificatePEM, KeyPEM: good.KeyPEM, Host: "other.example.org"}, "the certificate is for db.example.org, and not for other.example.org"},
		"no host name":       {UploadedCertificate{CertificatePEM: good.CertificatePEM, KeyPEM: good.KeyPEM, Host: "*.example.org"}, "is not a host name"},
		"only a wildcard":    {brought(t, time.Hour, "*.example.org"), "say which name clients use, such as db.example.org"},
		"the private name":   {brought(t, time.Hour, "orders.example.com"), "is a name of the private certificate"},
		"a client's certificate": {func() UploadedCertificate {
			template := testpki.Client("somebody")
			template.DNSNames = []string{"db.example.org"}
			pair := testpki.MustCA(t, "somebody's CA").MustIssue(t, template)
			return UploadedCertificate{CertificatePEM: pair.CertPEM, KeyPEM: pair.KeyPEM}
		}(), "it is not for TLS servers"},
	} {
		_, err := w.UploadEnhanced(w.ctx, admin, "orders", c.u)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: a key is shown", name)
		}
	}
	if db := w.is("orders"); db.Enhanced != nil {
		t.Errorf("%+v", db.Enhanced)
	}

	// Without an acme block, and told of its end on each of the days.
	good.Host = "db.example.org"
	w.done(w.UploadEnhanced(w.ctx, admin, "orders", brought(t, 100*24*time.Hour, "db.example.org")))
	db := w.acknowledged("orders")
	if db.Enhanced.Status != Enabled {
		t.Errorf("%+v", db.Enhanced)
	}
	for i, days := range endings {
		w.at = db.Enhanced.Leaf.NotAfter.AddDate(0, 0, -days).Add(time.Minute)
		w.due()
		w.due()
		if n := count(w.actions(), "enhanced_certificate.ending"); n != i+1 {
			t.Errorf("%d days before the end, people were told %d times", days, n)
		}
	}
	w.at = db.Enhanced.Leaf.NotAfter
	w.due()
	status, err := w.EnhancedStatus(w.ctx, w.is("orders"))
	w.done(status, err)
	if status.Status != Provisioning || status.Reason != reasonEnded || count(w.actions(), "enhanced_certificate.expired") != 1 {
		t.Errorf("at the end: %+v", status)
	}
	w.database("plain")
	w.done(w.UploadEnhanced(w.ctx, admin, "plain", func() UploadedCertificate {
		w.at = time.Now()
		return brought(t, time.Hour, "plain.example.org")
	}()))
	w.done(nil, w.Acknowledge(w.ctx, w.is("plain").ID, "edge", api.Report{Applied: w.is("plain").Generation, InForce: w.is("plain").Generation}))
	if text := w.policyText("plain"); !strings.Contains(text, "client_auth: off") || !strings.Contains(text, "ip_rules: []") {
		t.Errorf("policy:\n%s", text)
	}
}
