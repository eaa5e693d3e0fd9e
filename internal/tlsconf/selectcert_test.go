package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
)

// The handshakes in server_test.go ask for ordinary names; these are the odd ones, which Go's client would not send.
func TestOddNamesGetTheDefault(t *testing.T) {
	g := newGate(t)
	config := g.server().Config()
	for name, want := range map[string]*Certificate{
		"db.example.com":                          g.ecdsa,
		"a.example.com":                           g.wild,
		"A.EXAMPLE.com":                           g.wild,
		"*.example.com":                           g.wild, // a label as good as any other
		"a.b.example.com":                         g.private,
		"example.com":                             g.private,
		".example.com":                            g.private,
		"192.0.2.1":                               g.private,
		"2001:db8::1":                             g.private,
		"db.example.com.":                         g.private, // can't come: see TestTrailingDotInAClientHelloIsRefused
		"db.example.com\x00":                      g.private,
		"d\u0131.example.com.evil":                g.private,
		"\u212Aelvin.test":                        g.private,
		strings.Repeat("x", 70_000):               g.private,
		strings.Repeat("x", 300) + ".example.com": g.private,
	} {
		got, err := config.GetCertificate(&tls.ClientHelloInfo{
			ServerName:        name,
			SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		})
		if err != nil || got.Leaf != want.Leaf {
			t.Errorf("%.40q: got %v, want %v: %v", name, got.Leaf.DNSNames, want.Names(), err)
		}
	}
}

// An IP address in a certificate is for clients that verify it; as a name in a ClientHello it is not allowed.
func TestAddressesAreNoServerNames(t *testing.T) {
	g := newGate(t)
	config := Server{Certificates: []*Certificate{g.ecdsa, g.private}}.Config()
	got, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: "192.0.2.1", SupportedVersions: []uint16{tls.VersionTLS13}})
	if err != nil || got.Leaf != g.ecdsa.Leaf {
		t.Errorf("got %v: %v", got.Leaf.DNSNames, err)
	}
}

func TestDefaultOutOfRangeIsTheFirst(t *testing.T) {
	g := newGate(t)
	for _, index := range []int{-1, 2, 99} {
		config := Server{Certificates: []*Certificate{g.wild, g.private}, Default: index}.Config()
		got, err := config.GetCertificate(&tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}})
		if err != nil || got.Leaf != g.wild.Leaf {
			t.Errorf("default %d: got %v: %v", index, got.Leaf.DNSNames, err)
		}
	}
}

func BenchmarkGetCertificate(b *testing.B) {
	// Certificates of one kind, so that the choice is by name alone.
	certs := []*Certificate{{names: []string{"db.internal"}}, {names: []string{"*.example.com"}}}
	for _, cert := range certs {
		cert.tls.Leaf = &x509.Certificate{}
	}
	config := Server{Certificates: certs}.Config()
	hello := &tls.ClientHelloInfo{ServerName: "db.example.com"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := config.GetCertificate(hello); err != nil {
			b.Fatal(err)
		}
	}
}
