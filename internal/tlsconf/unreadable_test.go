package tlsconf

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

// Certificates that crypto/tls does not take are told apart from handshakes that fail for another reason.
func TestUnreadableClientCertificatesAreToldApart(t *testing.T) {
	g := newGate(t)
	template := testpki.Client("app")
	template.Serial = big.NewInt(0x1234567890)
	good := g.space.MustIssue(t, template)
	withNames := func(names ...[]byte) []byte {
		certificate, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: good.Cert.NotAfter,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: tlv(0x30, names...)}}}, g.space.Cert, good.Key.Public(), g.space.Key)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	// crypto/x509 issues no such certificates, so a good one is changed. Nobody has verified its signature yet.
	serial := tlv(2, good.Cert.SerialNumber.Bytes())
	negative := bytes.Clone(serial)
	negative[2] |= 0x80
	pss, err := g.space.IssueRSAPSS(testpki.Client("app"))
	if err != nil {
		t.Fatal(err)
	}
	huge := tlv(0x30, tlv(0x30, tlv(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}), tlv(5)),
		tlv(3, []byte{0}, tlv(0x30, tlv(2, new(big.Int).Lsh(big.NewInt(1), 8200).Bytes()), tlv(2, []byte{3}))))
	replaced := func(old, new []byte) []byte {
		tbs := tlv(0x30, bytes.Replace(content(t, good.Cert.RawTBSCertificate), old, new, 1))
		return tlv(0x30, bytes.Replace(content(t, good.Cert.Raw), good.Cert.RawTBSCertificate, tbs, 1))
	}
	for name, row := range map[string]struct {
		chain [][]byte
		want  bool
	}{
		"good":                            {[][]byte{good.Cert.Raw}, false},
		"a negative serial":               {[][]byte{replaced(serial, negative)}, true},
		"a negative serial above it":      {[][]byte{good.Cert.Raw, replaced(serial, negative)}, true},
		"a URI with a broken port":        {[][]byte{withNames(tlv(0x86, []byte("spiffe://a:b:c/x")))}, true},
		"a URI with a broken escape":      {[][]byte{withNames(tlv(0x86, []byte("urn://a/%zz")))}, true},
		"an IP address of three bytes":    {[][]byte{withNames(tlv(0x87, []byte{1, 2, 3}))}, true},
		"text that is no certificate":     {[][]byte{[]byte("hello")}, true},
		"half a certificate":              {[][]byte{good.Cert.Raw[:100]}, true},
		"an RSA-PSS key":                  {[][]byte{der(pss.CertPEM)}, true},
		"an RSA key of 8,201 bits":        {[][]byte{replaced(good.Cert.RawSubjectPublicKeyInfo, huge)}, true},
		"a certificate of another client": {[][]byte{g.space.MustIssue(t, testpki.Client("other")).Cert.Raw}, false}, // the signature fails
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := g.client("db.example.com")
			client.MinVersion, client.MaxVersion = version, version
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: row.chain, PrivateKey: good.Key, Leaf: good.Cert}, nil
			}
			got := handshake(t, g.server().Config(), client)
			if failed := got.serverErr != nil; failed != (name != "good") || failed && UnreadableCertificate(got.serverErr) != row.want {
				t.Errorf("%s, %s: %v", name, tls.VersionName(version), got.serverErr)
			}
		}
	}
}

// content is what is inside a value in DER.
func content(t *testing.T, der []byte) []byte {
	t.Helper()
	var value asn1.RawValue
	if _, err := asn1.Unmarshal(der, &value); err != nil {
		t.Fatal(err)
	}
	return value.Bytes
}
