package testpki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
)

func TestIssuedCertificatesVerifyThroughTheirIntermediate(t *testing.T) {
	root := MustCA(t, "Root")
	below := root.MustIntermediate(t, Authority("Below"))
	pair := below.MustIssue(t, Server("db.example.com", "192.0.2.1"))

	loaded, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Certificate) != 2 || !bytes.Equal(loaded.Certificate[1], below.Cert.Raw) {
		t.Errorf("the PEM holds %d certificates, want the leaf and its intermediate", len(loaded.Certificate))
	}
	pool := x509.NewCertPool()
	pool.AddCert(below.Cert)
	for _, name := range []string{"db.example.com", "192.0.2.1"} {
		if _, err := pair.Cert.Verify(x509.VerifyOptions{DNSName: name, Roots: root.Pool(), Intermediates: pool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryKindOfKeyIssues(t *testing.T) {
	ca := MustCA(t, "Root")
	for key := P256; key <= RSA4104; key++ {
		if testing.Short() && (key == RSA4096 || key == RSA4104) {
			continue // a second each
		}
		template := Client("app")
		template.Key = key
		pair := ca.MustIssue(t, template)
		if err := pair.Cert.CheckSignatureFrom(ca.Cert); err != nil {
			t.Errorf("key %d: %v", key, err)
		}
	}
	if _, err := ca.Issue(Template{Key: 99}); err == nil {
		t.Error("an unknown kind of key was made")
	}
}

func TestSHA1CanBeSigned(t *testing.T) {
	template := Authority("Old")
	template.Key, template.Signature = RSA2048, x509.SHA1WithRSA
	ca := MustNewCA(t, template)
	if ca.Cert.SignatureAlgorithm != x509.SHA1WithRSA {
		t.Errorf("signed with %v", ca.Cert.SignatureAlgorithm)
	}
}

func TestCRLIsSignedByTheCA(t *testing.T) {
	ca := MustCA(t, "Root")
	block, rest := pem.Decode(ca.MustCRL(t, CRL{Revoked: []*big.Int{big.NewInt(7)}}))
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil || len(rest) > 0 {
		t.Fatal(err, rest)
	}
	if err := list.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Int64() != 7 {
		t.Errorf("entries %v", list.RevokedCertificateEntries)
	}
}

func TestRSAPSSCertificateKeepsItsSignature(t *testing.T) {
	ca := MustCA(t, "Root")
	pair, err := ca.IssueRSAPSS(Server("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pair.CertPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	if cert.PublicKeyAlgorithm != x509.UnknownPublicKeyAlgorithm {
		t.Errorf("the key is %v: not of the type id-RSASSA-PSS", cert.PublicKeyAlgorithm)
	}
}

func TestFilesHaveTheirModes(t *testing.T) {
	stem := filepath.Join(t.TempDir(), "server")
	pair := MustCA(t, "Root").MustIssue(t, Server("localhost"))
	for range 2 { // the second time over existing files
		if err := pair.Write(stem); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]os.FileMode{".crt": 0o644, ".key": 0o600} {
		info, err := os.Stat(stem + name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
	if left, _ := filepath.Glob(filepath.Dir(stem) + "/.testpki-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := WriteFile(filepath.Join(stem, "absent", "x"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
