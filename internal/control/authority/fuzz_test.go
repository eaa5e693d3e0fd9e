package authority

import (
	"bytes"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

func FuzzParseRequest(f *testing.F) {
	for _, kind := range []testpki.Key{testpki.P256, testpki.Ed25519, testpki.RSA2048} {
		der, _ := csr(f, kind)
		f.Add(der)
		f.Add(requestPEM("CERTIFICATE REQUEST", der))
	}
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte("0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParseRequest(text)
		if (key == nil) == (err == nil) {
			t.Fatalf("key %v and error %v", key, err)
		}
		if err == nil && checkKey(key) != nil {
			t.Errorf("a key that can't be certified: %v", checkKey(key))
		}
	})
}

func FuzzParseCA(f *testing.F) {
	certPEM, keyPEM := outside(f, testpki.Authority("intermediate"))
	f.Add(certPEM, keyPEM)
	f.Add(certPEM[:len(certPEM)/2], keyPEM)
	f.Add(keyPEM, certPEM)
	f.Add(append(bytes.Clone(certPEM), certPEM...), testpki.EncryptedPKCS8)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), testpki.EncryptedLegacy)
	f.Fuzz(func(t *testing.T, certPEM, keyPEM []byte) {
		ca, err := ParseCA(certPEM, keyPEM)
		if (ca == nil) == (err == nil) {
			t.Fatalf("CA %v and error %v", ca, err)
		}
		if err != nil {
			return
		}
		again, err := ParseCA(ca.ChainPEM(), ca.KeyPEM())
		if err != nil || again.ID() != ca.ID() || !bytes.Equal(again.ChainPEM(), ca.ChainPEM()) {
			t.Errorf("what was taken is not taken again: %v", err)
		}
		if err := MatchesKey(ca.CertificatePEM(), ca.KeyPEM()); err != nil {
			t.Error(err)
		}
	})
}

// What is accepted as a host has to survive a certificate.
func FuzzHosts(f *testing.F) {
	for _, host := range []string{"db.example", "*.db.example", "192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0", "a..b", "1.2.3.4.5", "-", "*."} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		names, ips, err := parseHosts([]string{host})
		if (err == nil) != (CheckHost(host) == nil) {
			t.Errorf("%q: %v, but CheckHost says %v", host, err, CheckHost(host))
		}
		if err == nil && len(names)+len(ips) != 1 {
			t.Errorf("%q gives %q and %v", host, names, ips)
		}
	})
}
