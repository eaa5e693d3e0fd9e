package authority

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"
)

// start is when the tests' CAs begin: certificates have whole seconds.
var start = time.Now().Add(-time.Hour).UTC().Truncate(time.Second)

// newCA makes a CA of ten years.
func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA(Subject{CommonName: "space", Organization: "pgmtls"}, start, start.AddDate(10, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// clientRequest is for a key of its own, which comes with it.
func clientRequest(t *testing.T) (request Request, keyPEM []byte) {
	t.Helper()
	key, keyPEM, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return Request{
		CommonName: "app",
		URIs:       []string{"urn:pgmtls:database:7f1d"},
		PublicKey:  key.Public(),
		NotBefore:  start,
		NotAfter:   start.AddDate(1, 1, 0),
	}, keyPEM
}

// parse reads the certificates of a PEM text.
func parse(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		t.Fatal("no certificate in the text")
	}
	return certs
}

// wantError wants an error with the text.
func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got the error %v, want one with %q", err, text)
	}
}

func TestNewCAMayIssueLeavesAndListsOnly(t *testing.T) {
	cert := parse(t, newCA(t).CertificatePEM())[0]
	switch {
	case !cert.IsCA || !cert.BasicConstraintsValid || cert.MaxPathLen != 0 || !cert.MaxPathLenZero:
		t.Errorf("basic constraints: CA %v, path length %d", cert.IsCA, cert.MaxPathLen)
	case cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign:
		t.Errorf("key usage %b", cert.KeyUsage)
	case len(cert.SubjectKeyId) == 0:
		t.Error("no subject key identifier")
	case cert.SignatureAlgorithm != x509.ECDSAWithSHA256:
		t.Errorf("signed with %v", cert.SignatureAlgorithm)
	case cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() != 127:
		t.Errorf("serial %v of %d bits", cert.SerialNumber, cert.SerialNumber.BitLen())
	case !cert.NotBefore.Equal(start) || !cert.NotAfter.Equal(start.AddDate(10, 0, 0)):
		t.Errorf("valid from %v to %v", cert.NotBefore, cert.NotAfter)
	}
}

func TestNewCARefusesBadNamesAndTimes(t *testing.T) {
	for _, test := range []struct {
		subject Subject
		end     time.Time
		want    string
	}{
		{Subject{CommonName: ""}, start.Add(time.Hour), "common name is empty"},
		{Subject{CommonName: strings.Repeat("n", 65)}, start.Add(time.Hour), "65 bytes"},
		{Subject{CommonName: "a\u202eb"}, start.Add(time.Hour), "unprintable character"},
		{Subject{CommonName: "a", Organization: "b\x00"}, start.Add(time.Hour), "organization"},
		{Subject{CommonName: "a"}, start, "before it becomes valid"},
	} {
		_, err := NewCA(test.subject, start, test.end)
		wantError(t, err, test.want)
	}
}

func TestKeptCAIsTheSameCA(t *testing.T) {
	ca := newCA(t)
	again, err := ParseCA(ca.ChainPEM(), ca.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != ca.ID() || again.Serial() != ca.Serial() || !again.NotAfter().Equal(ca.NotAfter()) ||
		again.Name() != "space" || !bytes.Equal(again.CertificatePEM(), ca.CertificatePEM()) || !bytes.Equal(again.KeyPEM(), ca.KeyPEM()) {
		t.Errorf("got %v, want %v", again, ca)
	}
}

func TestPrintedCAShowsNoKey(t *testing.T) {
	ca := newCA(t)
	want := fmt.Sprintf("CA %q (%s)", "space", ca.ID())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, ca); got != want {
			t.Errorf("%s prints %q, want %q", verb, got, want)
		}
	}
}

func TestCAIsUsableInItsTimeOnly(t *testing.T) {
	ca := newCA(t)
	for at, want := range map[time.Time]string{
		start:                                    "",
		start.AddDate(10, 0, 0):                  "",
		start.Add(-time.Second):                  "is not valid before",
		start.AddDate(10, 0, 0).Add(time.Second): "expired at",
	} {
		if err := ca.CheckValid(at); want == "" && err != nil {
			t.Errorf("at %v: %v", at, err)
		} else if want != "" {
			wantError(t, err, want)
		}
	}
}

func TestClientCertificateIsForClientsOnly(t *testing.T) {
	ca := newCA(t)
	request, keyPEM := clientRequest(t)
	issued, err := ca.IssueClient(request)
	if err != nil {
		t.Fatal(err)
	}
	certs := parse(t, issued.CertificatePEM)
	leaf := certs[0]
	switch {
	case len(certs) != 1:
		t.Errorf("%d certificates; a root is not served", len(certs))
	case len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth:
		t.Errorf("extended key usage %v", leaf.ExtKeyUsage)
	case leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.IsCA || !leaf.BasicConstraintsValid:
		t.Errorf("key usage %b, CA %v", leaf.KeyUsage, leaf.IsCA)
	case leaf.Subject.CommonName != "app" || len(leaf.URIs) != 1 || leaf.URIs[0].String() != "urn:pgmtls:database:7f1d":
		t.Errorf("names %v, %v", leaf.Subject, leaf.URIs)
	case formatSerial(leaf.SerialNumber) != issued.Serial || len(issued.Serial) != 16*3-1:
		t.Errorf("serial %q for %x", issued.Serial, leaf.SerialNumber)
	case !leaf.NotAfter.Equal(issued.NotAfter) || !issued.NotAfter.Equal(request.NotAfter):
		t.Errorf("ends %v, said %v, asked %v", leaf.NotAfter, issued.NotAfter, request.NotAfter)
	}
	if err := MatchesKey(issued.CertificatePEM, keyPEM); err != nil {
		t.Error(err)
	}
}
