package tlsconf

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgmtls-proxy/internal/testkit/testpki"
)

func FuzzParseServerCertificate(f *testing.F) {
	ca := testpki.MustCA(f, "Root")
	pair := ca.MustIntermediate(f, testpki.Authority("Intermediate")).MustIssue(f, testpki.Server("db.example", "192.0.2.1"))
	f.Add(pair.CertPEM, pair.KeyPEM)
	f.Add(append(bytes.Clone(pair.CertPEM), ca.PEM()...), pair.KeyPEM)
	f.Add(pair.KeyPEM, pair.CertPEM)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), testpki.EncryptedPKCS8)
	f.Add([]byte("-----BEGIN -----\n-"), testpki.EncryptedLegacy)
	f.Add([]byte("-"), []byte("\n-\n-----END "))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		c, err := ParseServerCertificate(cert, key)
		if (c == nil) == (err == nil) {
			t.Fatalf("certificate %v and error %v", c, err)
		}
		if err != nil {
			return
		}
		if bytes.Count(cert, []byte("-----BEGIN ")) != len(c.Chain) {
			t.Errorf("a chain of %d from %d blocks", len(c.Chain), bytes.Count(cert, []byte("-----BEGIN ")))
		}
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			t.Errorf("crypto/tls does not take what was accepted: %v", err)
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	one, two := testpki.MustCA(f, "One"), testpki.MustCA(f, "Two")
	crl := one.MustCRL(f, testpki.CRL{})
	leaf := one.MustIssue(f, testpki.Client("app"))
	f.Add(append(one.PEM(), two.PEM()...), append(one.MustCRL(f, testpki.CRL{}), two.MustCRL(f, testpki.CRL{})...))
	f.Add(one.PEM(), crl)
	f.Add(one.PEM(), der(crl))
	f.Add(one.PEM(), der(one.MustCRL(f, testpki.CRL{Revoked: []*big.Int{leaf.Cert.SerialNumber}, Extra: []pkix.Extension{idp(point(uri("http://crl.example")), tlv(0x81, yes))}})))
	f.Add(one.PEM(), []byte{})
	f.Add([]byte("# nothing\n-----BEGIN X509 CRL-----\n"), []byte("0"))
	f.Fuzz(func(t *testing.T, cas, crls []byte) {
		files := TrustFiles{CAs: []File{{"ca", cas}}}
		if len(crls) > 0 {
			files.CRLs = []File{{"crl", crls}}
		}
		trust, err := NewClientVerifier(files)
		if (trust == nil) == (err == nil) {
			t.Fatalf("trust %v and error %v", trust, err)
		}
		if err != nil {
			return
		}
		if len(trust.CAs()) == 0 || len(crls) > 0 && len(trust.CRLs()) == 0 {
			t.Errorf("%d CAs, %d lists", len(trust.CAs()), len(trust.CRLs()))
		}
		if identity, no := trust.Verify(leaf.Chain, time.Now()); (identity == nil) == (no == nil) {
			t.Errorf("identity %v and refusal %v", identity, no)
		}
	})
}

// fixed makes a template the same in every process: the workers of a fuzzing run each make the certificates again.
func fixed(template testpki.Template, number byte) testpki.Template {
	template.Signer = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{number}, ed25519.SeedSize))
	template.Serial = big.NewInt(int64(number))
	template.NotBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	template.NotAfter = template.NotBefore.AddDate(10, 0, 0)
	return template
}

func FuzzJudge(f *testing.F) {
	space := testpki.MustNewCA(f, fixed(testpki.Authority("Space CA"), 1))
	below := space.MustIntermediate(f, fixed(testpki.Authority("Intermediate"), 2))
	trust := mustTrust(f, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	now := space.Cert.NotBefore.AddDate(1, 0, 0)
	f.Add(below.MustIssue(f, fixed(testpki.Client("app"), 3)).Cert.Raw, below.Cert.Raw)
	f.Add(space.MustIssue(f, fixed(testpki.Client("app"), 4)).Cert.Raw, space.Cert.Raw)
	f.Add(space.Cert.Raw, space.Cert.Raw)
	f.Add(testpki.MustCA(f, "\x1b\u202e").MustIssue(f, testpki.Client("a\x00\n")).Cert.Raw, []byte{})
	f.Fuzz(func(t *testing.T, leaf, above []byte) {
		cert, err := x509.ParseCertificate(leaf)
		if err != nil {
			return
		}
		chain := []*x509.Certificate{cert}
		if cert, err := x509.ParseCertificate(above); err == nil {
			chain = append(chain, cert)
		}
		identity, no := trust.Verify(chain, now)
		switch {
		case (identity == nil) == (no == nil):
			t.Errorf("identity %v and refusal %v", identity, no)
		case no != nil:
			if strings.ContainsFunc(no.Detail, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("the detail %q is not printable", no.Detail)
			}
		default:
			// Whatever was accepted was issued by one of ours, whose keys nobody else has.
			if cert.CheckSignatureFrom(space.Cert) != nil && cert.CheckSignatureFrom(below.Cert) != nil {
				t.Errorf("accepted %v", identity)
			}
		}
	})
}
