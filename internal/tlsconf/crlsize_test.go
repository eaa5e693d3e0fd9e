package tlsconf

import (
	"math/big"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// largeList is of a CA that has revoked very many certificates, the given one last.
func largeList(t testpki.Fataler, ca *testpki.CA, size int, last *big.Int) []byte {
	random := rand.New(rand.NewPCG(16, 100_000))
	list := testpki.CRL{Revoked: make([]*big.Int, 0, size)}
	for range size - 1 {
		serial := new(big.Int).SetUint64(random.Uint64())
		list.Revoked = append(list.Revoked, serial.Lsh(serial, 63).SetBit(serial, 126, 1))
	}
	list.Revoked = append(list.Revoked, last)
	return ca.MustCRL(t, list)
}

// The entries of a list are the only part of a policy that can be many.
func TestListOf100000TakesLittleForEachEntry(t *testing.T) {
	const size = 100_000
	space := testpki.MustCA(t, "Space CA")
	revoked, good := space.MustIssue(t, testpki.Client("revoked")), space.MustIssue(t, testpki.Client("good"))
	files := TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", largeList(t, space, size, revoked.Cert.SerialNumber)}}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	trust := mustTrust(t, files)
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > size/20 {
		t.Errorf("%d allocations for %d entries", n, size)
	}
	if n := trust.CRLs()[0].Revoked; n != size {
		t.Errorf("%d entries", n)
	}
	judged{"on it", revoked.Chain, refusal.CertificateRevoked, ""}.check(t, trust, time.Now())
	judged{"not on it", good.Chain, ok, ""}.check(t, trust, time.Now())
}

func BenchmarkListOf100000(b *testing.B) {
	space := testpki.MustCA(b, "Space CA")
	text := largeList(b, space, 100_000, big.NewInt(7))
	files := TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", text}}}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	var keep *ClientVerifier
	before := heap()
	for b.Loop() {
		keep = mustTrust(b, files)
	}
	b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-live")
	runtime.KeepAlive(keep)
}
