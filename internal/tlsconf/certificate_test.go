package tlsconf

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

func TestServerCertificateNamesTheFileAndTheFault(t *testing.T) {
	ca := testpki.MustCA(t, "Root")
	below := ca.MustIntermediate(t, testpki.Authority("Intermediate"))
	stranger := testpki.MustCA(t, "Stranger")
	good := below.MustIssue(t, testpki.Server("db.example"))
	other := below.MustIssue(t, testpki.Server("db.example"))
	pss, err := ca.IssueRSAPSS(testpki.Server("db.example"))
	if err != nil {
		t.Fatal(err)
	}
	issue := func(change func(*testpki.Template)) *testpki.Pair {
		template := testpki.Server("db.example")
		change(&template)
		return ca.MustIssue(t, template)
	}
	weak := issue(func(c *testpki.Template) { c.Key = testpki.RSA1024 })
	p224 := issue(func(c *testpki.Template) { c.Key = testpki.P224 })
	ed25519 := issue(func(c *testpki.Template) { c.Key = testpki.Ed25519 })
	sha1 := issue(func(c *testpki.Template) { c.Signature = x509.ECDSAWithSHA1 })
	client := issue(func(c *testpki.Template) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	enciphers := issue(func(c *testpki.Template) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	block := func(kind string) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("x")}) }
	leafPEM := testpki.CertPEM(good.Cert)

	for _, row := range []struct {
		name      string
		cert, key []byte
		want      string
	}{
		{"empty certificate", nil, good.KeyPEM, "certificate: the file is empty"},
		{"empty key", good.CertPEM, nil, "key: the file is empty"},
		{"both wrong", []byte("x"), []byte("y"), "certificate: no PEM block; a file in DER can be converted with openssl x509, pkey or crl -inform DER -in FILE -out FILE.pem\nkey: no PEM block"},
		{"DER with a dash at the start of a line", join(good.Cert.Raw, []byte("\n-")), good.KeyPEM, "certificate: no PEM block; a file in DER can be converted"},
		{"DER", good.Cert.Raw, good.KeyPEM, "certificate: no PEM block; a file in DER can be converted"},
		{"files swapped", good.KeyPEM, good.CertPEM, "certificate: there is a private key where certificates are expected; keep it in a separate file that only the proxy may read\nkey: there is a certificate where the private key is expected; give the certificate's file and the key's the other way round"},
		{"key in the certificate's file", join(good.CertPEM, good.KeyPEM), good.KeyPEM, "certificate: there is a private key where certificates are expected"},
		{"certificate in the key's file", good.CertPEM, join(good.KeyPEM, good.CertPEM), "key: there is a certificate where the private key is expected"},
		{"trailing garbage", join(good.CertPEM, []byte("garbage\n")), good.KeyPEM, "certificate: there is text after the last PEM block (block 2); remove it, or, if the file was truncated"},
		{"trailing garbage in the key", good.CertPEM, join(good.KeyPEM, []byte("garbage")), "key: there is text after the last PEM block (block 1)"},
		{"indented", bytes.ReplaceAll(good.CertPEM, []byte("-----BEGIN"), []byte("  -----BEGIN")), good.KeyPEM, "certificate: PEM block 1 does not start at the beginning of a line"},
		{"behind two byte order marks", join([]byte("\xef\xbb\xbf\xef\xbb\xbf"), good.CertPEM), good.KeyPEM, "certificate: PEM block 1 does not start at the beginning of a line"},
		{"a damaged block", bytes.Replace(good.CertPEM, []byte("\nMII"), []byte("\nM*I"), 1), good.KeyPEM, "certificate: PEM block 1 is damaged; copy the file again"},
		{"no END line", bytes.Replace(good.CertPEM, []byte("-----END CERTIFICATE-----\n"), nil, 1), good.KeyPEM, "certificate: PEM block 1 has no -----END line; the file was cut or damaged"},
		{"another END line", bytes.Replace(good.CertPEM, []byte("-----END CERTIFICATE"), []byte("-----END SOMETHING"), 1), good.KeyPEM, "certificate: PEM block 1 is damaged"},
		{"an END line alone", join([]byte("-----END CERTIFICATE-----\n"), good.CertPEM), good.KeyPEM, "certificate: PEM block 1 has no -----BEGIN line"},

		{"encrypted key", good.CertPEM, testpki.EncryptedPKCS8, "key: the private key is encrypted, and the program can't ask for its password; decrypt it with openssl pkey -in ENCRYPTED.key -out PLAIN.key and chmod 0600 PLAIN.key"},
		{"encrypted key of old", good.CertPEM, testpki.EncryptedLegacy, "key: the private key is encrypted"},
		{"OpenSSH key", good.CertPEM, block("OPENSSH PRIVATE KEY"), "key: the private key is in OpenSSH's format"},
		{"public key", good.CertPEM, block("PUBLIC KEY"), `key: there is a PEM block of the type "PUBLIC KEY" where the private key is expected; make one with openssl genpkey`},
		{"damaged key", good.CertPEM, block("PRIVATE KEY"), "key: the private key can't be read ("},
		{"parameters only", good.CertPEM, block("EC PARAMETERS"), "key: there is no private key in it"},
		{"several keys", good.CertPEM, join(good.KeyPEM, other.KeyPEM), "key: there are several private keys; keep the one that belongs to the certificate"},
		{"another key", good.CertPEM, other.KeyPEM, `key: the key does not belong to the certificate "CN=db.example"; use the key that the certificate was issued for`},
		{"key of another kind", good.CertPEM, weak.KeyPEM, "key: the key does not belong to the certificate"},
		{"RSA-PSS", pss.CertPEM, pss.KeyPEM, "certificate: the key is of the type RSA-PSS, which TLS here can't use; make one with openssl genpkey -algorithm EC"},
		{"RSA-PSS key", good.CertPEM, pss.KeyPEM, "key: the key is of the type RSA-PSS"},
		{"Ed25519", ed25519.CertPEM, ed25519.KeyPEM, "certificate: its key is an Ed25519 key, with which libpq's channel binding (tls-server-end-point) fails; use an ECDSA P-256 or an RSA key"},
		{"RSA 1024", weak.CertPEM, weak.KeyPEM, `certificate: certificate 1, "CN=db.example": its RSA key has 1024 bits, not 2048 to 4096; issue it again for a new key`},
		{"P-224", p224.CertPEM, p224.KeyPEM, "its ECDSA key is on the curve P-224, not P-256, P-384 or P-521"},
		{"SHA-1", sha1.CertPEM, sha1.KeyPEM, "it is signed with ECDSA-SHA1; SHA-256 or stronger is needed"},
		{"a client's", client.CertPEM, client.KeyPEM, "certificate: it is not for TLS servers: its extended key usage lacks serverAuth; issue it again with serverAuth"},
		{"may not sign", enciphers.CertPEM, enciphers.KeyPEM, "certificate: its key usage lacks digitalSignature, without which it can't serve TLS 1.3"},

		{"leaf last", join(below.PEM(), leafPEM), good.KeyPEM, `certificate: the key belongs to certificate 2, "CN=db.example"; put that one first`},
		{"a stranger in the chain", join(leafPEM, stranger.PEM()), good.KeyPEM, `certificate: certificate 2, "CN=Stranger", did not issue certificate 1, "CN=db.example"; put the leaf first, then its issuer, then the issuer's issuer`},
		{"root before the intermediate", join(leafPEM, ca.PEM(), below.PEM()), good.KeyPEM, `certificate 2, "CN=Root", did not issue certificate 1`},
		{"the leaf twice", join(leafPEM, leafPEM), good.KeyPEM, "certificate 2, \"CN=db.example\", did not issue certificate 1"},
		{"a request", bytes.ReplaceAll(leafPEM, []byte("CERTIFICATE"), []byte("CERTIFICATE REQUEST")), good.KeyPEM, "the CA has to sign it first"},
	} {
		c, err := ParseServerCertificate(row.cert, row.key)
		var file *FileError
		switch {
		case err == nil || c != nil:
			t.Errorf("%s: accepted", row.name)
		case !strings.Contains(err.Error(), row.want):
			t.Errorf("%s:\ngot  %v\nwant %s", row.name, err, row.want)
		case !errors.As(err, &file) || file.File != CertificateFile && file.File != KeyFile:
			t.Errorf("%s: the error names no file", row.name)
		}
	}
}

func TestServerCertificateIsReadInEveryUsualForm(t *testing.T) {
	ca := testpki.MustCA(t, "Root")
	below := ca.MustIntermediate(t, testpki.Authority("Intermediate"))
	ec := below.MustIssue(t, testpki.Server("db.example"))
	template := testpki.Server("db.example")
	template.Key = testpki.RSA2048
	rsaPair := below.MustIssue(t, template)
	template = testpki.Authority("self-signed") // as openssl req -x509 makes it
	template.KeyUsage, template.DNSNames = 0, []string{"db.example"}
	own, err := testpki.MustNewCA(t, template).Pair()
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for _, row := range []struct {
		name      string
		cert, key []byte
		chain     int
	}{
		{"PKCS #8", ec.CertPEM, ec.KeyPEM, 2},
		{"SEC 1 behind its parameters", ec.CertPEM, append(encode("EC PARAMETERS", []byte("x")), encode("EC PRIVATE KEY", sec1)...), 2},
		{"RSA in PKCS #8", rsaPair.CertPEM, rsaPair.KeyPEM, 2},
		{"PKCS #1", rsaPair.CertPEM, encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaPair.Key.(*rsa.PrivateKey))), 2},
		{"with the root", append(bytes.Clone(ec.CertPEM), ca.PEM()...), ec.KeyPEM, 3},
		{"leaf alone", testpki.CertPEM(ec.Cert), ec.KeyPEM, 1},
		{"self-signed", own.CertPEM, own.KeyPEM, 1},
		{"CR LF", bytes.ReplaceAll(ec.CertPEM, []byte("\n"), []byte("\r\n")), bytes.ReplaceAll(ec.KeyPEM, []byte("\n"), []byte("\r\n")), 2},
		{"described by openssl", append([]byte("Bag Attributes\n    friendlyName: db\nsubject=CN = db.example\n"), ec.CertPEM...), append([]byte("Bag Attributes\n"), ec.KeyPEM...), 2},
		{"no newline at the end", bytes.TrimSpace(ec.CertPEM), bytes.TrimSpace(ec.KeyPEM), 2},
	} {
		c, err := ParseServerCertificate(row.cert, row.key)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if len(c.Chain) != row.chain || c.Chain[0] != c.Leaf || !slices.Equal(c.Names(), []string{"db.example"}) {
			t.Errorf("%s: chain of %d for %v", row.name, len(c.Chain), c.Names())
		}
	}
}

func TestExpiredServerCertificateIsRead(t *testing.T) {
	template := testpki.Server("db.example")
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	pair := testpki.MustCA(t, "Root").MustIssue(t, template)
	c, err := ParseServerCertificate(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if !c.NotAfter().Equal(pair.Cert.NotAfter) || !c.Leaf.NotBefore.Equal(pair.Cert.NotBefore) {
		t.Errorf("valid from %v to %v", c.Leaf.NotBefore, c.NotAfter())
	}
}

func TestNamesAreThoseThatClientsAskFor(t *testing.T) {
	ca := testpki.MustCA(t, "Root")
	for _, row := range []struct {
		template testpki.Template
		want     []string
	}{
		{testpki.Server("DB.Example", "*.db.example", "192.0.2.1", "2001:db8::1", "db.example"), []string{"*.db.example", "192.0.2.1", "2001:db8::1", "db.example"}},
		{testpki.Template{CommonName: "Only.Common"}, []string{"only.common"}},
		{testpki.Template{CommonName: "ignored", DNSNames: []string{"db.example"}}, []string{"db.example"}},
		{testpki.Template{}, nil},
	} {
		pair := ca.MustIssue(t, row.template)
		c, err := ParseServerCertificate(pair.CertPEM, pair.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Names(); !slices.Equal(got, row.want) {
			t.Errorf("got %v, want %v", got, row.want)
		}
	}
}

// A file that is being written must never be taken for a smaller file.
func TestServerCertificateCutAnywhereIsAnErrorOrTheSame(t *testing.T) {
	ca := testpki.MustCA(t, "Root")
	pair := ca.MustIntermediate(t, testpki.Authority("Intermediate")).MustIssue(t, testpki.Server("db.example"))
	between := len(testpki.CertPEM(pair.Cert))
	for cut := range pair.CertPEM {
		c, err := ParseServerCertificate(pair.CertPEM[:cut], pair.KeyPEM)
		switch {
		case err != nil:
		case cut == between || cut == between-1: // exactly between two certificates: nothing shows the cut
		case len(c.Chain) != 2:
			t.Errorf("cut at byte %d of %d: a chain of %d, and no error", cut, len(pair.CertPEM), len(c.Chain))
		}
	}
	for cut := range pair.KeyPEM {
		if _, err := ParseServerCertificate(pair.CertPEM, pair.KeyPEM[:cut]); err == nil && cut < len(pair.KeyPEM)-1 {
			t.Errorf("key cut at byte %d of %d: no error", cut, len(pair.KeyPEM))
		}
	}
}
