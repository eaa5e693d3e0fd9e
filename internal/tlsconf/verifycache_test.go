package tlsconf

import (
	"crypto/x509"
	"fmt"
	"math/big"
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
	if _, no := trust.Verify(other.MustIssue(t, testpki.Client("app")).Chain, time.Now()); no == nil || len(trust.cache.entries) != 0 {
		t.Errorf("a refusal is remembered: %v, %d entries", no, len(trust.cache.entries))
	}
	known := &verifiedChain{identity: &Identity{}}
	for i := range maxVerified + 10 {
		trust.cache.add([32]byte([]byte(fmt.Sprintf("%032d", i))), known)
	}
	if n := len(trust.cache.entries); n > maxVerified {
		t.Errorf("%d entries", n)
	}
}

// What was presented is the question: the same certificates in another order, or one of them twice, are another one.
func TestKeyDependsOnOrderAndNumber(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	chain := space.MustIssue(t, testpki.Client("app")).Chain
	a, b := chain[0], space.Cert
	if keyOf([]*x509.Certificate{a, b}) == keyOf([]*x509.Certificate{b, a}) {
		t.Error("the same key for another order")
	}
	if keyOf([]*x509.Certificate{a}) == keyOf([]*x509.Certificate{a, a}) {
		t.Error("the same key for one certificate and for two")
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
