package tlsconf

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// A client can send intermediates that are all candidates for all others, to make the proxy compute: threat 36.
func TestChainBombsAreCheap(t *testing.T) {
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", testpki.MustCA(t, "Space CA").PEM()}}})
	for name, chain := range map[string][]*x509.Certificate{
		"one key": oneKeyBomb(t), "one name": namesBomb(t, 1), "three names": namesBomb(t, 3), "nine names": namesBomb(t, 9),
	} {
		took := time.Hour
		for range 3 { // the best of three: the machine has other things to do
			start := time.Now()
			judged{name, chain, refusal.CertificateUnknownCA, ""}.check(t, trust, start)
			took = min(took, time.Since(start))
		}
		if took > bombLimit {
			t.Errorf("%s: took %v, want %v at most", name, took, bombLimit)
		}
	}
}

// oneKeyBomb is of CAs with one name and one key, told apart by another name: each of them issued every other one.
func oneKeyBomb(t *testing.T) []*x509.Certificate {
	authority := testpki.Authority("X")
	authority.Key = testpki.P521
	bomb := testpki.MustNewCA(t, authority)
	chain := []*x509.Certificate{bomb.MustIssue(t, testpki.Client("app")).Cert}
	for i := range maxChain - 1 {
		again := authority
		again.Signer, again.DNSNames = bomb.Key, []string{strings.Repeat("x", i+1) + ".example"}
		chain = append(chain, bomb.MustIssue(t, again).Cert)
	}
	return chain
}

// namesBomb is of CAs with many keys and a few names: each one's issuer has to be searched among those of the name.
func namesBomb(t *testing.T, names int) []*x509.Certificate {
	authority := testpki.Authority("X0")
	authority.Key = testpki.P521
	ca := testpki.MustNewCA(t, authority)
	var above []*x509.Certificate
	for i := range maxChain - 1 {
		authority.CommonName = fmt.Sprint("X", (i+1)%names)
		ca = ca.MustIntermediate(t, authority)
		above = append(above, ca.Cert)
	}
	return append([]*x509.Certificate{ca.MustIssue(t, testpki.Client("app")).Cert}, above...)
}

func BenchmarkJudge(b *testing.B) {
	space := testpki.MustCA(b, "Space CA")
	below := space.MustIntermediate(b, testpki.Authority("Intermediate"))
	cas := File{"ca", append(space.PEM(), below.PEM()...)}
	crls := File{"crl", append(space.MustCRL(b, testpki.CRL{}), below.MustCRL(b, testpki.CRL{})...)}
	stranger := testpki.MustCA(b, "Foreign CA").MustIssue(b, testpki.Client("app"))
	for _, row := range []struct {
		name  string
		trust *ClientVerifier
		chain []*x509.Certificate
		want  bool
	}{
		{"leaf", mustTrust(b, TrustFiles{CAs: []File{cas}}), space.MustIssue(b, testpki.Client("app")).Chain, true},
		{"leaf+crl", mustTrust(b, TrustFiles{CAs: []File{cas}, CRLs: []File{crls}}), space.MustIssue(b, testpki.Client("app")).Chain, true},
		{"intermediate+crl", mustTrust(b, TrustFiles{CAs: []File{cas}, CRLs: []File{crls}}), below.MustIssue(b, testpki.Client("app")).Chain, true},
		{"stranger", mustTrust(b, TrustFiles{CAs: []File{cas}}), stranger.Chain, false},
	} {
		for _, known := range []bool{false, true} {
			b.Run(row.name+map[bool]string{false: "/first", true: "/known"}[known], func(b *testing.B) {
				now := time.Now()
				b.ReportAllocs()
				for b.Loop() {
					if !known {
						row.trust.cache.leaves = nil
					}
					if _, no := row.trust.Verify(row.chain, now); (no == nil) != row.want {
						b.Fatal(no)
					}
				}
			})
		}
	}
}
