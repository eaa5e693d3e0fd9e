package tlsconf

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

func TestCAThatCanLetInNobodyIsRefusedWithTheReason(t *testing.T) {
	root := testpki.MustCA(t, "Root")
	ca := func(name string, change func(*testpki.Template)) testpki.Template {
		template := testpki.Authority(name)
		change(&template)
		return template
	}
	purposes := func(list ...x509.ExtKeyUsage) func(*testpki.Template) {
		return func(c *testpki.Template) { c.ExtKeyUsage = list }
	}
	zero, one := 0, 1
	none, short := ca("No CAs below", func(c *testpki.Template) { c.PathLen = &zero }), ca("One CA below", func(c *testpki.Template) { c.PathLen = &one })
	noneCA, shortCA := testpki.MustNewCA(t, none), testpki.MustNewCA(t, short)
	middle := shortCA.MustIntermediate(t, testpki.Authority("Middle"))
	named := testpki.MustNewCA(t, ca("Named", func(c *testpki.Template) { c.PermittedDNS = []string{"good.example"} }))
	past := testpki.MustNewCA(t, ca("Past", func(c *testpki.Template) {
		c.NotBefore, c.NotAfter = time.Now().Add(-72*time.Hour), time.Now().Add(-48*time.Hour)
	}))
	extension := func(critical bool) func(*testpki.Template) {
		return func(c *testpki.Template) {
			c.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: critical, Value: []byte{5, 0}}}
		}
	}
	// Names of people are constrained by RFC 5280 as well, and not understood by crypto/x509.
	directory := func(c *testpki.Template) {
		c.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: tlv(0x30, tlv(0xa0, tlv(0x30, tlv(0xa4, root.Cert.RawSubject))))}}
	}
	issued := func(by *testpki.CA, template testpki.Template) []byte {
		return append(by.PEM(), by.MustIntermediate(t, template).PEM()...)
	}
	selfSigned := func(change func(*testpki.Template)) []byte { return testpki.MustNewCA(t, ca("CA", change)).PEM() }
	for name, row := range map[string]struct {
		bundle []byte
		want   string // empty: it is taken
	}{
		"serverAuth":                       {selfSigned(purposes(x509.ExtKeyUsageServerAuth)), `certificate 1, "CN=CA": it may not issue certificates for TLS clients: its extended key usage lacks clientAuth`},
		"codeSigning and mail":             {selfSigned(purposes(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection)), "lacks clientAuth"},
		"serverAuth, below a good root":    {issued(root, ca("Servers", purposes(x509.ExtKeyUsageServerAuth))), `certificate 2, "CN=Servers": it may not issue certificates for TLS clients`},
		"clientAuth":                       {selfSigned(purposes(x509.ExtKeyUsageClientAuth)), ""},
		"any":                              {selfSigned(purposes(x509.ExtKeyUsageAny)), ""},
		"both":                             {selfSigned(purposes(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)), ""},
		"an unknown critical extension":    {selfSigned(extension(true)), "it has the critical extension 1.2.3.4, which is not understood here"},
		"an unknown extension":             {selfSigned(extension(false)), ""},
		"name constraints on directories":  {selfSigned(directory), "it has the critical extension 2.5.29.30"},
		"path length 0":                    {noneCA.PEM(), ""},
		"below a CA of path length 0":      {issued(noneCA, testpki.Authority("Below")), `certificate 2, "CN=Below", can let in nobody: there are more CAs than "CN=No CAs below" allows below itself (path length 0)`},
		"below a CA of path length 1":      {issued(shortCA, testpki.Authority("Below")), ""},
		"two below a CA of path length 1":  {testpki.CertPEM(shortCA.Cert, middle.Cert, middle.MustIntermediate(t, testpki.Authority("Below")).Cert), `certificate 3, "CN=Below", can let in nobody: there are more CAs than "CN=One CA below"`},
		"a name that is not allowed above": {issued(named, ca("Below", func(c *testpki.Template) { c.DNSNames = []string{"ca.bad.example"} })), "it has a name that a CA above it does not allow (name constraints)"},
		"below a CA with name constraints": {issued(named, testpki.Authority("Below")), ""},
		"never valid with the CA above":    {issued(past, testpki.Authority("Below")), ""},
		"expired together with its CA": {issued(past, ca("Below", func(c *testpki.Template) {
			c.NotBefore, c.NotAfter = past.Cert.NotBefore.Add(time.Hour), past.Cert.NotAfter
		})), ""},
		"expired":                           {past.PEM(), ""},
		"the CA above begins later":         {issued(root, ca("Below", func(c *testpki.Template) { c.NotBefore = root.Cert.NotBefore.Add(-time.Hour) })), ""},
		"a good one beside it":              {append(root.PEM(), selfSigned(purposes(x509.ExtKeyUsageServerAuth))...), `certificate 2, "CN=CA": it may not issue`},
		"cross-signed, one path is allowed": {crossSigned(t, noneCA, root), ""},
	} {
		_, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", row.bundle}}})
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, row.want)
		}
	}
}

// crossSigned is an intermediate of two CAs, with both.
func crossSigned(t *testing.T, a, b *testpki.CA) []byte {
	template := testpki.Authority("Cross")
	first := a.MustIntermediate(t, template)
	template.Signer = first.Key
	return testpki.CertPEM(a.Cert, b.Cert, first.Cert, b.MustIntermediate(t, template).Cert)
}

// What is refused would have let in nobody: the verifier, asked without that check, says so.
func TestRefusedCAsHaveNoClients(t *testing.T) {
	root := testpki.MustCA(t, "Root")
	zero := 0
	for name, template := range map[string]testpki.Template{
		"serverAuth": {CommonName: "CA", IsCA: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		"critical":   {CommonName: "CA", IsCA: true, KeyUsage: x509.KeyUsageCertSign, Extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}},
	} {
		leaf := root.MustIntermediate(t, template).MustIssue(t, testpki.Client("app"))
		if _, no := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}}).Verify(leaf.Chain, time.Now()); no == nil {
			t.Errorf("%s: a client comes in", name)
		}
	}
	none := testpki.Authority("None")
	none.PathLen = &zero
	noneCA := testpki.MustNewCA(t, none)
	leaf := noneCA.MustIntermediate(t, testpki.Authority("Below")).MustIssue(t, testpki.Client("app"))
	judged{"path length", leaf.Chain, refusal.CertificateInvalid, "(path length)."}.check(t, mustTrust(t, TrustFiles{CAs: []File{{"ca", noneCA.PEM()}}}), time.Now())
}
