package registry

import (
	"crypto"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/testpki"
)

// fromOutside is a CA as openssl would make it, with its chain and its key.
func fromOutside(t *testing.T, ca *testpki.CA, above ...*testpki.CA) ImportedCA {
	t.Helper()
	pair, err := ca.Pair()
	if err != nil {
		t.Fatal(err)
	}
	text := ca.PEM()
	for _, cert := range above {
		text = append(text, cert.PEM()...)
	}
	return ImportedCA{CertificatePEM: text, KeyPEM: pair.KeyPEM}
}

func TestCAThatCanNotDoItsWorkIsRefusedAndTheOldOneStays(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.done(w.CreateDatabase(w.ctx, admin, NewDatabase{Name: "stock", Space: "acme", Hosts: []string{"stock.example.net", "192.0.2.7"}, Proxies: []NewProxy{{Name: "edge"}}}))
	active := w.authorities()[0]
	zero := 0
	template := func(change func(*testpki.Template)) testpki.Template {
		c := testpki.Authority("Ours")
		c.NotBefore, c.NotAfter = w.at.AddDate(-1, 0, 0), w.at.AddDate(10, 0, 0)
		change(&c)
		return c
	}
	root := func(change func(*testpki.Template)) ImportedCA {
		return fromOutside(t, testpki.MustNewCA(t, template(change)))
	}
	closed := testpki.MustNewCA(t, template(func(c *testpki.Template) { c.CommonName, c.PathLen = "Closed", &zero }))
	signer, err := w.signer(w.ctx, &active)
	w.done(nil, err)
	space := ownCA(t, signer.CertificatePEM(), signer.KeyPEM())

	for name, row := range map[string]struct {
		ca   ImportedCA
		want string
	}{
		// The URI in client certificates has no host, which crypto/x509, here and in the proxy, holds against any constraint.
		"names of the databases": {root(func(c *testpki.Template) { c.PermittedDNS = []string{"example.com", "example.net"} }), `a client certificate: the CA "Ours" may not issue such a certificate (`},
		"an excluded name":       {root(func(c *testpki.Template) { c.ExcludedDNS = []string{"example.net"} }), "may not issue such a certificate ("},
		"an excluded address":    {root(func(c *testpki.Template) { c.ExcludedIPs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }), "may not issue such a certificate ("},
		"URIs of a domain":       {root(func(c *testpki.Template) { c.PermittedURI = []string{"example.com"} }), "may not issue such a certificate ("},
		"a critical extension of no meaning": {root(func(c *testpki.Template) {
			c.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), "unhandled critical extension"},
		"below a CA without room":    {fromOutside(t, closed.MustIntermediate(t, template(func(*testpki.Template) {})), closed), "too many intermediates"},
		"below a CA for other names": {below(t, template(func(c *testpki.Template) { c.PermittedDNS = []string{"example.com"} })), "may not issue such a certificate ("},
		"below the space's own CA":   {fromOutside(t, space.MustIntermediate(t, template(func(*testpki.Template) {}))), "which is trusted beside it, is above it"},
		"expired":                    {root(func(c *testpki.Template) { c.NotAfter = w.at.Add(-time.Second) }), "expired"},
		"below one that has expired": {below(t, template(func(c *testpki.Template) { c.NotAfter = w.at.Add(-time.Second) })), "expired"},
		"not yet valid":              {root(func(c *testpki.Template) { c.NotBefore = w.at.Add(time.Hour) }), "is not valid before"},
		"for servers alone":          {root(func(c *testpki.Template) { c.ExtKeyUsage = testpki.Server("x").ExtKeyUsage }), "extended key usage"},
		"no lists":                   {root(func(c *testpki.Template) { c.KeyUsage = testpki.Authority("").KeyUsage &^ (1 << 6) }), "revocation lists"},
		"a weak key":                 {root(func(c *testpki.Template) { c.Key = testpki.RSA1024 }), "1024 bits"},
	} {
		_, err := w.ImportCA(w.ctx, admin, "acme", row.ca)
		if err == nil {
			t.Fatalf("%s: taken", name)
		}
		t.Run(name, func(t *testing.T) { refused(t, err, problem.InvalidParams, row.want) })
	}
	if got := w.authorities(); len(got) != 1 || got[0].ID != active.ID || got[0].State != ActiveCA {
		t.Errorf("the authorities are %+v", got)
	}
	w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "after-all"}))

	next, err := w.ImportCA(w.ctx, admin, "acme", root(func(c *testpki.Template) { c.PathLen = &zero }))
	w.done(next, err)
	w.done(w.EnableMTLS(w.ctx, admin, "stock"))
	if got := w.authorities()[0]; got.ID != next.ID {
		t.Errorf("%s signs", got.Subject)
	}
}

// An authority that an older release took for good, or whose time is over, is the caller's to mend, and no fault of the program.
func TestLimitsOfTheActiveCAAreToldToTheCaller(t *testing.T) {
	w := newWorld(t)
	w.database("orders")
	c := testpki.Authority("Ours")
	c.NotBefore, c.NotAfter, c.PermittedDNS = w.at.AddDate(-1, 0, 0), w.at.AddDate(0, 1, 0), []string{"example.org"}
	imported := fromOutside(t, testpki.MustNewCA(t, c))
	ca, err := authority.ParseCA(imported.CertificatePEM, imported.KeyPEM)
	w.done(ca, err)
	tx := new(store.Tx)
	w.done(w.putActive(w.ctx, tx, "acme", ca, true))
	w.done(w.docs.Commit(w.ctx, tx))
	_, err = w.EnableMTLS(w.ctx, admin, "orders")
	refused(t, err, problem.InvalidParams, `the server certificate of orders can't be issued: the CA "Ours" may not issue such a certificate (`)
	w.at = w.at.AddDate(0, 2, 0)
	_, err = w.EnableMTLS(w.ctx, admin, "orders")
	refused(t, err, problem.InvalidParams, "which does not cover the certificate; rotate the CA first")
}

// A space whose databases are still to come can have its authority before.
func TestCAIsTriedForASpaceWithoutDatabases(t *testing.T) {
	w := newWorld(t)
	c := testpki.Authority("Ours")
	c.NotBefore, c.NotAfter = w.at.AddDate(-1, 0, 0), w.at.AddDate(10, 0, 0)
	w.done(w.ImportCA(w.ctx, admin, "acme", fromOutside(t, testpki.MustNewCA(t, c))))
	c.PermittedURI = []string{"example.com"}
	_, err := w.ImportCA(w.ctx, admin, "zoo", fromOutside(t, testpki.MustNewCA(t, c)))
	refused(t, err, problem.InvalidParams, "a client certificate: ")
	if spaces, err := w.Spaces(w.ctx); err != nil || !slices.Equal(spaces, []string{"acme"}) {
		t.Errorf("the spaces are %v, %v", spaces, err)
	}
}

// A CA above one that is trusted already makes that one an intermediate, whose clients then need its leave.
func TestCAAboveTheOldOneMustAllowWhatThatIssued(t *testing.T) {
	w := newWorld(t)
	c := testpki.Authority("Above")
	c.NotBefore, c.NotAfter = w.at.AddDate(-1, 0, 0), w.at.AddDate(10, 0, 0)
	zero := 0
	closed := c
	closed.PathLen = &zero
	for name, row := range map[string]struct {
		above testpki.Template
		taken bool
	}{"room": {c, true}, "none": {closed, false}} {
		above := testpki.MustNewCA(t, row.above)
		lower := c
		lower.CommonName = "Old"
		old := above.MustIntermediate(t, lower)
		w.done(w.CreateDatabase(w.ctx, admin, NewDatabase{Name: name, Space: name, Hosts: []string{name + ".example.com"}, Proxies: []NewProxy{{Name: "edge"}}}))
		w.done(w.ImportCA(w.ctx, admin, name, fromOutside(t, old)))
		_, err := w.ImportCA(w.ctx, admin, name, fromOutside(t, above))
		if row.taken {
			w.done(nil, err)
			continue
		}
		refused(t, err, problem.InvalidParams, `a certificate of the CA "Old", which it issued: `)
	}
}

// A lost key is what a rotation mends.
func TestCAIsReplacedAlsoWithoutTheOldKey(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	lost := w.authorities()[0]
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Delete(keySigners+lost.ID)))
	next, err := w.RotateCA(w.ctx, admin, "acme")
	if next.ID == lost.ID || next.State != ActiveCA {
		t.Errorf("got %+v, %v", next, err)
	}
}

// ownCA lets a test issue with the space's CA.
func ownCA(t *testing.T, certificatePEM, keyPEM []byte) *testpki.CA {
	t.Helper()
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &testpki.CA{Cert: pair.Leaf, Key: pair.PrivateKey.(crypto.Signer)}
}

// below is a good intermediate of a CA, with it.
func below(t *testing.T, template testpki.Template) ImportedCA {
	t.Helper()
	template.CommonName = "Above"
	above := testpki.MustNewCA(t, template)
	good := testpki.Authority("Ours")
	good.NotBefore, good.NotAfter = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	return fromOutside(t, above.MustIntermediate(t, good), above)
}
