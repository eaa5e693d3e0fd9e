package tlsconf

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// A verdict that is remembered must end when a fresh one would.
func TestRememberedVerdictEndsWithTime(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	space := testpki.MustNewCA(t, testpki.Template{CommonName: "Space CA", IsCA: true, KeyUsage: testpki.Authority("").KeyUsage,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	template := testpki.Client("app")
	template.NotBefore, template.NotAfter = now, now.Add(2*time.Hour) // beyond the CA's end
	chain := space.MustIssue(t, template).Chain
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	for _, step := range []struct {
		at   time.Duration
		want refusal.Reason // 0: good
	}{
		{0, 0}, {time.Minute, 0}, {time.Hour, 0}, {time.Hour + time.Second, refusal.CertificateUnknownCA},
		{30 * time.Minute, 0}, {-time.Second, refusal.CertificateNotYetValid},
	} {
		id, no := trust.Verify(chain, now.Add(step.at))
		_, fresh := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}}).Verify(chain, now.Add(step.at))
		if (no == nil) != (fresh == nil) || no != nil && no.Reason != fresh.Reason {
			t.Errorf("%s: remembered %v, fresh %v", step.at, no, fresh)
		}
		if no == nil && !id.Until.Equal(now.Add(time.Hour)) {
			t.Errorf("%s: until %s, want the CA's end", step.at, id.Until)
		}
	}
}

func TestRevocationIsNeverRemembered(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	chain := space.MustIssue(t, testpki.Client("app")).Chain
	now := time.Now()
	list := space.MustCRL(t, testpki.CRL{ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)})
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", list}}})
	if _, no := trust.Verify(chain, now); no != nil {
		t.Fatal(no)
	}
	if _, no := trust.Verify(chain, now.Add(2*time.Hour)); no == nil || no.Reason != refusal.RevocationUnknown {
		t.Errorf("behind the list's end: %v", no)
	}
}

func TestCacheIsBoundedAndKeepsNoRefusals(t *testing.T) {
	space, other := testpki.MustCA(t, "Space CA"), testpki.MustCA(t, "Other CA")
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	if _, no := trust.Verify(other.MustIssue(t, testpki.Client("app")).Chain, time.Now()); no == nil || len(trust.cache.leaves) != 0 {
		t.Errorf("a refusal is remembered: %v, %d entries", no, len(trust.cache.leaves))
	}
	known := &verifiedChain{identity: &Identity{}}
	for i := range maxVerifiedLeaves + 10 {
		trust.cache.add(cacheKey{leaf: digest([]byte(fmt.Sprintf("%032d", i)))}, known)
	}
	if n := len(trust.cache.leaves); n > maxVerifiedLeaves {
		t.Errorf("%d entries", n)
	}
}

// The holder of one certificate can send it with a thousand chains of its making, each as large as TLS allows.
func TestOneLeafTakesBoundedMemoryInTheCache(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	leaf := space.MustIssue(t, testpki.Client("app")).Cert
	junk := testpki.Authority("Junk")
	junk.DNSNames = []string{strings.Repeat("a", 20000) + ".example"} // a large one
	sent := testpki.MustNewCA(t, junk).Cert
	before := heap()
	const visits = 500
	for i := range visits {
		// As from the wire: all certificates of a message are parts of one allocation.
		message := slices.Concat(leaf.Raw, sent.Raw)
		binary.BigEndian.PutUint32(message[len(message)-4:], uint32(i)) // the end of the signature: another certificate each time
		first, second := mustParse(t, message[:len(leaf.Raw)]), mustParse(t, message[len(leaf.Raw):])
		if _, no := trust.Verify([]*x509.Certificate{first, second}, time.Now()); no != nil {
			t.Fatal(no)
		}
	}
	if grown := heap() - before; grown > visits*int64(len(sent.Raw))/10 {
		t.Errorf("%d visits with %d bytes of certificates each left %d bytes", visits, len(leaf.Raw)+len(sent.Raw), grown)
	}
	if n := len(trust.cache.leaves); n != 1 {
		t.Errorf("one leaf has %d entries", n)
	}
	if n := len(trust.cache.leaves[sha256.Sum256(leaf.Raw)].variants); n > maxVariantsPerLeaf {
		t.Errorf("one leaf has %d variants", n)
	}
	runtime.KeepAlive(trust)
}

// heap is the live memory.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func mustParse(t *testing.T, raw []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A leaf that comes again with what it came with before is known, whatever else came in between, and what a client sends in
// excess makes it no other question.
func TestKnownChainIsFoundAgain(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	below := space.MustIntermediate(t, testpki.Authority("Intermediate"))
	good := below.MustIssue(t, testpki.Client("app")).Chain
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	first, no := trust.Verify(good, time.Now())
	if no != nil {
		t.Fatal(no)
	}
	for i := range maxVariantsPerLeaf - 1 {
		if _, no := trust.Verify(slices.Concat(good, []*x509.Certificate{testpki.MustCA(t, fmt.Sprint("Junk ", i)).Cert}), time.Now()); no != nil {
			t.Fatal(no)
		}
	}
	again, no := trust.Verify(slices.Clone(good), time.Now())
	if no != nil || again != first {
		t.Errorf("the same chain was verified anew: %v", no)
	}
	twice, no := trust.Verify(slices.Concat(good, good[1:]), time.Now())
	if no != nil || twice != first {
		t.Errorf("an intermediate that is sent twice made it another question: %v", no)
	}
	if _, no := trust.Verify(good[:1], time.Now()); no == nil || no.Reason != refusal.CertificateUnknownCA {
		t.Errorf("without its intermediate the leaf is remembered as good: %v", no)
	}
}

// What takes part in the search is the question: the same certificates in another order are another one.
func TestKeyDependsOnOrderAndNumber(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	leaf := space.MustIssue(t, testpki.Client("app")).Cert
	a, b := space.Cert, testpki.MustCA(t, "Other CA").Cert
	list := func(certs ...*x509.Certificate) []*x509.Certificate { return certs }
	if newCacheKey(leaf, list(a, b)) == newCacheKey(leaf, list(b, a)) {
		t.Error("the same key for another order")
	}
	if newCacheKey(leaf, list(a)) == newCacheKey(leaf, list(a, a)) {
		t.Error("the same key for one certificate and for two")
	}
	if newCacheKey(leaf, nil) == newCacheKey(a, nil) || newCacheKey(leaf, nil) == newCacheKey(leaf, list(a)) {
		t.Error("the same key for another leaf, or for one that comes with an intermediate")
	}
}

// Who is trusted decides which chains there are. Who is revoked does not.
func TestVerdictsAreInheritedFromTheSameCAsOnly(t *testing.T) {
	space, other := testpki.MustCA(t, "Space CA"), testpki.MustCA(t, "Other CA")
	leaf := space.MustIssue(t, testpki.Client("app"))
	both := []File{{"ca", space.PEM()}, {"other", other.PEM()}}
	before := mustTrust(t, TrustFiles{CAs: both})
	if _, no := before.Verify(leaf.Chain, time.Now()); no != nil {
		t.Fatal(no)
	}
	revoking := mustTrust(t, TrustFiles{CAs: both, Revoked: []*big.Int{leaf.Cert.SerialNumber}})
	revoking.Inherit(before)
	if revoking.cache != before.cache {
		t.Error("the same CAs did not inherit")
	}
	if _, no := revoking.Verify(leaf.Chain, time.Now()); no == nil || no.Reason != refusal.CertificateRevoked {
		t.Errorf("revoked: %v", no)
	}
	without := mustTrust(t, TrustFiles{CAs: both[1:]})
	without.Inherit(before)
	if _, no := without.Verify(leaf.Chain, time.Now()); no == nil || no.Reason != refusal.CertificateUnknownCA {
		t.Errorf("its CA is gone: %v", no)
	}
	without.Inherit(nil)
	(*ClientVerifier)(nil).Inherit(before)
}
