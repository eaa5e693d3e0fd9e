package tlsconf

import (
	"crypto/x509"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func internedCertificates() (n int) {
	interned.Range(func(any, any) bool { n++; return true })
	return n
}

func TestCertificatesOfTheSameBytesAreHeldOnce(t *testing.T) {
	ca := testpki.MustCA(t, "interned")
	one, other := ca.MustIssue(t, testpki.Client("one")).Cert.Raw, ca.MustIssue(t, testpki.Client("other")).Cert.Raw
	first := []*x509.Certificate{parsed(t, one), parsed(t, other)}
	second := []*x509.Certificate{parsed(t, one), parsed(t, other), parsed(t, ca.Cert.Raw)}
	kept := second[2]
	Intern(first)
	Intern(second)
	if first[0] != second[0] || first[1] != second[1] || first[0] == first[1] || second[2] != kept {
		t.Errorf("%p and %p became %p and %p; a third, %p, became %p", first[0], first[1], second[0], second[1], kept, second[2])
	}
	runtime.KeepAlive(first)
}

func TestInternedCertificatesGoWithTheLastSession(t *testing.T) {
	ca := testpki.MustCA(t, "interned")
	before := internedCertificates()
	for range 50 {
		Intern([]*x509.Certificate{parsed(t, ca.MustIssue(t, testpki.Client("gone")).Cert.Raw)})
	}
	eventually.OK(t, time.Minute, func() error {
		runtime.GC()
		if internedCertificates() > before {
			return eventually.ErrNotYet
		}
		return nil
	})
}

func TestManySessionsAtOnceInternOneCertificate(t *testing.T) {
	der := testpki.MustCA(t, "interned").MustIssue(t, testpki.Client("shared")).Cert.Raw
	chains := make([][]*x509.Certificate, 16)
	for range 20 {
		var sessions sync.WaitGroup
		for i := range chains {
			chains[i] = []*x509.Certificate{parsed(t, der)}
			sessions.Go(func() { Intern(chains[i]) })
		}
		sessions.Wait()
		for _, chain := range chains {
			if chain[0] != chains[0][0] {
				t.Fatal("two sessions hold certificates of their own")
			}
		}
	}
}
