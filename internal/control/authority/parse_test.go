package authority

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

// outside makes a CA as operators bring one: an intermediate below a root.
func outside(t testing.TB, template testpki.Template) (certPEM, keyPEM []byte) {
	t.Helper()
	root := testpki.MustCA(t, "root")
	pair, err := root.Issue(template)
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(pair.CertPEM), root.PEM()...), pair.KeyPEM
}

func TestIntermediateFromOutsideIssuesWithItsChain(t *testing.T) {
	for _, kind := range []testpki.Key{testpki.P256, testpki.P384, testpki.P521, testpki.RSA2048, testpki.Ed25519} {
		template := testpki.Authority("intermediate")
		template.Key = kind
		certPEM, keyPEM := outside(t, template)
		ca, err := ParseCA(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, ca.ChainPEM()); len(got) != 2 {
			t.Errorf("a chain of %d, want 2", len(got))
		}
		if got := parse(t, ca.CertificatePEM()); len(got) != 1 || got[0].Subject.CommonName != "intermediate" {
			t.Errorf("proxies would trust %v", got)
		}
		request, _ := clientRequest(t)
		issued, err := ca.IssueClient(request)
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, issued.CertificatePEM); len(got) != 2 || got[1].Subject.CommonName != "intermediate" {
			t.Errorf("%d certificates are served, want the leaf and the intermediate", len(got))
		}
		if _, err := ca.SignCRL(CRL{Number: 1, ThisUpdate: start, NextUpdate: start.AddDate(0, 0, 30)}); err != nil {
			t.Error(err)
		}
	}
}

// The root need not come along: the operator's clients may have it already.
func TestIntermediateIssuesWithoutItsRoot(t *testing.T) {
	certPEM, keyPEM := outside(t, testpki.Authority("intermediate"))
	ca, err := ParseCA(encodeCertificates(parse(t, certPEM)[:1]), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	request, _ := clientRequest(t)
	if issued, err := ca.IssueClient(request); err != nil || len(parse(t, issued.CertificatePEM)) != 2 {
		t.Errorf("got %v", err)
	}
}

// keyID is the extension subjectKeyIdentifier with so many bytes (fewer than 126).
func keyID(size byte) []pkix.Extension {
	value := append([]byte{4, size}, make([]byte, size)...) // an OCTET STRING
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 14}, Value: value}}
}

func TestBadCAsAreRefusedWithTheirFix(t *testing.T) {
	edited := func(edit func(*testpki.Template)) func(*testing.T) ([]byte, []byte) {
		return func(t *testing.T) ([]byte, []byte) {
			template := testpki.Authority("intermediate")
			edit(&template)
			return outside(t, template)
		}
	}
	rearranged := func(arrange func(certPEM, keyPEM []byte) ([]byte, []byte)) func(*testing.T) ([]byte, []byte) {
		return func(t *testing.T) ([]byte, []byte) {
			return arrange(outside(t, testpki.Authority("intermediate")))
		}
	}
	other := testpki.MustCA(t, "other")
	otherPair, err := other.Pair()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		make func(*testing.T) (certPEM, keyPEM []byte)
		want string
	}{
		{"a leaf", edited(func(template *testpki.Template) { *template = testpki.Client("app") }), "not a CA certificate"},
		{"no keyCertSign", edited(func(template *testpki.Template) { template.KeyUsage = x509.KeyUsageCRLSign }), "may not sign certificates"},
		{"no cRLSign", edited(func(template *testpki.Template) { template.KeyUsage = x509.KeyUsageCertSign }), "may not sign revocation lists"},
		{"no key usage", edited(func(template *testpki.Template) { template.KeyUsage = 0 }), "keyUsage=critical,keyCertSign,cRLSign"},
		{"RSA of 1024 bits", edited(func(template *testpki.Template) { template.Key = testpki.RSA1024 }), "1024 bits"},
		{"P-224", edited(func(template *testpki.Template) { template.Key = testpki.P224 }), "the ECDSA key is on the curve P-224, not P-256, P-384 or P-521"},
		{"for servers only", edited(func(template *testpki.Template) {
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), "both clientAuth and serverAuth"},
		{"signed with SHA-1", edited(func(template *testpki.Template) { template.Signature = x509.ECDSAWithSHA1 }), "ECDSA-SHA1, which is not accepted"},
		{"no subject", edited(func(template *testpki.Template) { template.CommonName = "" }), "needs a name"},
		{"no key identifier", edited(func(template *testpki.Template) { template.Extra = keyID(0) }), "has no subject key identifier"},
		{"a key identifier that is none", edited(func(template *testpki.Template) { template.Extra = keyID(65) }), "has 65 bytes"},
		{"a weak root", func(t *testing.T) ([]byte, []byte) {
			template := testpki.Authority("root")
			template.Key = testpki.RSA1024
			root := testpki.MustNewCA(t, template)
			pair := root.MustIssue(t, testpki.Authority("intermediate"))
			return append(pair.CertPEM, root.PEM()...), pair.KeyPEM
		}, `CA certificate 2, "CN=root": the RSA key has 1024 bits`},
		{"another key", rearranged(func(c, k []byte) ([]byte, []byte) { return c, otherPair.KeyPEM }), "does not belong to the CA certificate"},
		{"the root first", rearranged(func(c, k []byte) ([]byte, []byte) {
			blocks := bytes.SplitAfter(c, []byte("-----END CERTIFICATE-----\n"))
			return append(bytes.Clone(blocks[1]), blocks[0]...), k
		}), "belongs to CA certificate 2"},
		{"a stranger above", rearranged(func(c, k []byte) ([]byte, []byte) {
			return append(bytes.SplitAfter(c, []byte("-----END CERTIFICATE-----\n"))[0], other.PEM()...), k
		}), "did not issue CA certificate 1"},
		{"a namesake of the root above", rearranged(func(c, k []byte) ([]byte, []byte) {
			return append(bytes.SplitAfter(c, []byte("-----END CERTIFICATE-----\n"))[0], testpki.MustCA(t, "root").PEM()...), k
		}), "did not issue CA certificate 1"},
		{"the issuer's key under another name above", func(t *testing.T) ([]byte, []byte) {
			root := testpki.MustCA(t, "root")
			pair := root.MustIssue(t, testpki.Authority("intermediate"))
			template := testpki.Authority("renamed")
			template.Signer = root.Key
			return append(pair.CertPEM, testpki.MustNewCA(t, template).PEM()...), pair.KeyPEM
		}, "did not issue CA certificate 1"},
		{"something above a root", rearranged(func(c, k []byte) ([]byte, []byte) {
			return append(bytes.Clone(otherPair.CertPEM), otherPair.CertPEM...), otherPair.KeyPEM
		}), "did not issue CA certificate 1"},
		{"a long chain", rearranged(func(c, k []byte) ([]byte, []byte) { return bytes.Repeat(c, 5), k }), "a chain of 10"},
		{"the first damaged", rearranged(func(c, k []byte) ([]byte, []byte) {
			return bytes.Replace(c, []byte("-----END"), []byte("----END"), 1), k
		}), "PEM block 1 is damaged"},
		{"cut", rearranged(func(c, k []byte) ([]byte, []byte) { return c[:len(c)-40], k }), "PEM block 2 is damaged or truncated"},
		{"DER", rearranged(func(c, k []byte) ([]byte, []byte) {
			block, _ := pem.Decode(c)
			return block.Bytes, k
		}), "-inform DER"},
		{"empty", rearranged(func(c, k []byte) ([]byte, []byte) { return nil, k }), "it is empty"},
		{"huge", rearranged(func(c, k []byte) ([]byte, []byte) { return append(make([]byte, maxText), c...), k }), "more than"},
		{"exchanged", rearranged(func(c, k []byte) ([]byte, []byte) { return k, c }), "private key where certificates are expected"},
		{"a request", rearranged(func(c, k []byte) ([]byte, []byte) {
			der, _ := csr(t, testpki.P256)
			return requestPEM("CERTIFICATE REQUEST", der), k
		}), "a CA must sign it first"},
		{"a list", rearranged(func(c, k []byte) ([]byte, []byte) { return requestPEM("X509 CRL", nil), k }), `"X509 CRL" where a CERTIFICATE is expected`},
		{"a certificate as key", rearranged(func(c, k []byte) ([]byte, []byte) { return c, c }), "certificate where the private key is expected"},
		{"two keys", rearranged(func(c, k []byte) ([]byte, []byte) { return c, append(bytes.Clone(k), k...) }), "several private keys"},
		{"a list as key", rearranged(func(c, k []byte) ([]byte, []byte) {
			return c, []byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n")
		}), `"X509 CRL" where the private key`},
		{"an encrypted key", rearranged(func(c, k []byte) ([]byte, []byte) { return c, testpki.EncryptedPKCS8 }), "openssl pkey -in"},
		{"an encrypted key of old", rearranged(func(c, k []byte) ([]byte, []byte) { return c, testpki.EncryptedLegacy }), "openssl pkey -in"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			certPEM, keyPEM := test.make(t)
			_, err := ParseCA(certPEM, keyPEM)
			wantError(t, err, test.want)
		})
	}
}

func TestRSAPSSKeyIsRefused(t *testing.T) {
	pair, err := testpki.MustCA(t, "root").IssueRSAPSS(testpki.Authority("intermediate"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParseCA(pair.CertPEM, pair.KeyPEM)
	wantError(t, err, "the key is of the type RSA-PSS, which TLS here can't use; make one with openssl genpkey")
}

func TestLimitsOfACAFromOutsideAreToldWhenItIssues(t *testing.T) {
	template := testpki.Authority("intermediate")
	template.PermittedDNS = []string{"db.example"}
	ca, err := ParseCA(outside(t, template))
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	server := Request{Hosts: []string{"a.db.example"}, PublicKey: key.Public(), NotBefore: start, NotAfter: start.AddDate(0, 0, 90)}
	if _, err := ca.IssueServer(server); err != nil {
		t.Errorf("a permitted name: %v", err)
	}
	server.Hosts = []string{"a.db.example", "db.elsewhere"}
	_, err = ca.IssueServer(server)
	wantError(t, err, "may not issue such a certificate")
}

func TestForeignTextIsShownOnOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                        "plain",
		"a\x1b[2J\r\nb\u202ec\x00":     "a?[2J??b?c?",
		strings.Repeat("x", 300):       strings.Repeat("x", maxShown) + "…",
		"x" + strings.Repeat("é", 300): "x" + strings.Repeat("é", 99) + "…",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestErrorsShowNoKeyAndNoControlBytes(t *testing.T) {
	template := testpki.Authority("evil\x1b[2J\u202e" + strings.Repeat("x", 1000))
	certPEM, keyPEM := outside(t, template)
	block, _ := pem.Decode(keyPEM)
	block.Bytes[4] ^= 0x40 // the version's tag
	damaged := pem.EncodeToMemory(block)
	_, otherKey, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, keyPEM := range [][]byte{damaged, otherKey} {
		_, err := ParseCA(certPEM, keyPEM)
		if err == nil {
			t.Fatal("a wrong key was taken")
		}
		if strings.ContainsAny(err.Error(), "\x1b\u202e") || len(err.Error()) > 2*maxShown {
			t.Errorf("the error is not fit to be shown: %q", err)
		}
		lines := strings.Split(strings.TrimSpace(string(keyPEM)), "\n")
		for _, line := range lines[1 : len(lines)-1] {
			if strings.Contains(err.Error(), line) {
				t.Errorf("the error shows the key: %v", err)
			}
		}
	}
}
