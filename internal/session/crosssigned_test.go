package session

import (
	"crypto/x509"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// A client of cross-signed CAs comes in by the one path that is valid, whatever else it has in its file and in whatever order; without
// that path it reads why not.
func TestClientOfCrossSignedCAsComesInByItsPath(t *testing.T) {
	one, two, three := testpki.MustCA(t, "One"), testpki.MustCA(t, "Two"), testpki.MustCA(t, "Three")
	cross := func(by, of *testpki.CA, change func(*testpki.Template)) *x509.Certificate {
		template := always(testpki.Authority(of.Cert.Subject.CommonName))
		template.Signer = of.Key
		change(&template)
		return by.MustIssue(t, template).Cert
	}
	good := func(*testpki.Template) {}
	expired := func(c *testpki.Template) { c.NotAfter = time.Date(1999, 6, 1, 0, 0, 0, 0, time.UTC) }
	servers := func(c *testpki.Template) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	weak := func(c *testpki.Template) { c.Signature = x509.ECDSAWithSHA1 }
	client := three.MustIssue(t, always(testpki.Client("app")))
	last := cross(pki().ca, one, good) // the only one with a valid path to the space's CA
	aside := []*x509.Certificate{
		cross(pki().ca, three, expired), cross(pki().ca, two, servers), cross(two, one, good), cross(one, three, weak),
		cross(one, two, good), cross(two, three, good), cross(pki().stranger, three, good),
	}
	for name, row := range map[string]struct {
		above []*x509.Certificate
		in    bool
	}{
		"the path is there":               {append(slices.Clone(aside), last), true},
		"it comes first":                  {append([]*x509.Certificate{last}, aside...), true},
		"its end is not there":            {aside, false},
		"there is nothing but the client": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				c := w.connect(home)
				pair := *client
				pair.Chain = append([]*x509.Certificate{client.Cert}, row.above...)
				c.handshake(&pair)
				c.send(startupPacket("user", "app"))
				if row.in {
					c.want(loginAnswer)
					c.leave()
					return
				}
				c.wantFatal("28000", "connection requires a valid client certificate")
			})
		})
	}
}
