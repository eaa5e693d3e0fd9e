package authority

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

// csr makes a request in DER that asks for more than it will get.
func csr(t testing.TB, kind testpki.Key) (der []byte, public crypto.PublicKey) {
	t.Helper()
	key, err := kind.New()
	if err != nil {
		t.Fatal(err)
	}
	der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "postgres"},
		DNSNames: []string{"db.example"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key.Public()
}

func requestPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestRequestGivesItsKeyAlone(t *testing.T) {
	for _, kind := range []testpki.Key{testpki.P256, testpki.P384, testpki.P521, testpki.Ed25519, testpki.RSA2048} {
		der, public := csr(t, kind)
		for _, text := range [][]byte{der, requestPEM("CERTIFICATE REQUEST", der), requestPEM("NEW CERTIFICATE REQUEST", der)} {
			got, err := ParseRequest(text)
			if err != nil {
				t.Fatal(err)
			}
			if !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
				t.Errorf("key %v, want %v", got, public)
			}
		}
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	der, _ := csr(t, testpki.P256)
	weak, _ := csr(t, testpki.RSA1024)
	curve, _ := csr(t, testpki.P224)
	forged := append([]byte(nil), der...)
	forged[len(forged)-1] ^= 1
	good := requestPEM("CERTIFICATE REQUEST", der)
	_, keyPEM, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "it is empty"},
		{"no PEM", []byte("hello"), "is not PEM"},
		{"huge", []byte(strings.Repeat("x", maxRequest+1)), "more than"},
		{"weak RSA", weak, "1024 bits"},
		{"weak curve", curve, "the curve P-224, not P-256, P-384 or P-521"},
		{"signed by another key", forged, "not signed with its own key"},
		{"a cut DER", der[:len(der)-5], "can't be read"},
		{"bytes behind DER", append(append([]byte(nil), der...), 0), "can't be read"},
		{"a cut PEM", good[:len(good)-20], "damaged or truncated"},
		{"a certificate", newCA(t).CertificatePEM(), "send a CERTIFICATE REQUEST"},
		{"a key", keyPEM, "must stay secret"},
		{"a key beside it", append(append([]byte(nil), good...), keyPEM...), "several PEM blocks"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseRequest(test.text)
			wantError(t, err, test.want)
		})
	}
}
