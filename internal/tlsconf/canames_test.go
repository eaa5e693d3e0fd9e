package tlsconf

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// asked gives the names that a client reads in the handshake, in both versions of TLS, which say them in different messages.
func asked(t *testing.T, trust *ClientVerifier) [][]byte {
	t.Helper()
	pair := testpki.MustCA(t, "Server CA").MustIssue(t, testpki.Server("db.test"))
	certificate, err := ParseServerCertificate(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	server := Server{Certificates: []*Certificate{certificate}, ClientCAs: trust}.Config()
	var seen [2][][]byte
	for i, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		requests := 0
		result := handshake(t, server, &tls.Config{InsecureSkipVerify: true, MaxVersion: version,
			GetClientCertificate: func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				requests++
				seen[i] = request.AcceptableCAs
				return &tls.Certificate{}, nil
			}})
		if result.failed() || requests != 1 {
			t.Fatalf("TLS %x: %d requests, client %v, server %v", version, requests, result.clientErr, result.serverErr)
		}
	}
	if fmt.Sprint(seen[0]) != fmt.Sprint(seen[1]) {
		t.Errorf("TLS 1.2 names %q, 1.3 %q", seen[0], seen[1])
	}
	return seen[1]
}

func trusting(t *testing.T, cas ...*testpki.CA) *ClientVerifier {
	t.Helper()
	var text []byte
	for _, ca := range cas {
		text = append(text, ca.PEM()...)
	}
	trust, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca.pem", text}}})
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// pgjdbc compares the issuer of the last certificate in its file, which is the intermediate, with the names.
func TestHandshakeNamesCAsAndTheirIssuers(t *testing.T) {
	root, other := testpki.MustCA(t, "Root"), testpki.MustCA(t, "Other Root")
	first := root.MustIntermediate(t, testpki.Authority("First"))
	second := root.MustIntermediate(t, testpki.Authority("Second"))
	crossed := other.MustIntermediate(t, testpki.Authority("First"))
	for _, row := range []struct {
		name string
		cas  []*testpki.CA
		want string
	}{
		{"a root", []*testpki.CA{root}, "CN=Root"},
		{"an intermediate", []*testpki.CA{first}, "CN=First CN=Root"},
		{"two of one root, while one replaces the other", []*testpki.CA{first, second}, "CN=First CN=Root CN=Second"},
		{"an intermediate with its root", []*testpki.CA{root, first}, "CN=First CN=Root"},
		{"one name of two roots", []*testpki.CA{first, crossed}, "CN=First CN=Other Root CN=Root"},
	} {
		var got []string
		for _, name := range asked(t, trusting(t, row.cas...)) {
			for _, ca := range []*testpki.CA{root, other, first, second} {
				if string(name) == string(ca.Cert.RawSubject) {
					got = append(got, "CN="+ca.Cert.Subject.CommonName)
				}
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: the names are %q, want %q", row.name, got, row.want)
		}
	}
}

// Beyond 64 KiB no handshake would succeed, and beyond 32 KiB none of Java's.
func TestNamesOfManyCAsFailNoHandshake(t *testing.T) {
	root := testpki.MustCA(t, strings.Repeat("r", 64))
	above := make([]*testpki.CA, 0, 900)
	for i := range cap(above) {
		name := fmt.Sprintf("%064d", i)
		if i < 120 {
			above = append(above, testpki.MustCA(t, name+" Root").MustIntermediate(t, testpki.Authority(name)))
		} else {
			above = append(above, root.MustIntermediate(t, testpki.Authority(name)))
		}
	}
	for _, row := range []struct{ cas, names int }{
		{80, 160},  // 14 KiB with those of their issuers
		{120, 120}, // without them
		{900, 0},   // 70 KiB: any certificate may come
	} {
		if got := asked(t, trusting(t, above[:row.cas]...)); len(got) != row.names {
			t.Errorf("%d CAs: %d names, want %d", row.cas, len(got), row.names)
		}
	}
}

func TestClientWithoutCertificateReadsWhoseIsWanted(t *testing.T) {
	const before = "Set sslcert and sslkey to a client certificate of this database and its key. If they are set, the file does not exist, or the client held the certificate back: it has to be issued by "
	const behind = ", and its key can't be RSA-PSS or secp256k1."
	cas := []*testpki.CA{testpki.MustCA(t, "A"), testpki.MustCA(t, "B"), testpki.MustCA(t, "C"), testpki.MustCA(t, "D"), testpki.MustCA(t, "E")}
	for _, row := range []struct {
		cas  []*testpki.CA
		want string
	}{
		{cas[:1], `"CN=A"`},
		{cas[:2], `"CN=A" or "CN=B"`},
		{cas[:3], `"CN=A", "CN=B" or "CN=C"`},
		{cas[:4], `"CN=A", "CN=B", "CN=C" or one other CA`},
		{cas, `"CN=A", "CN=B", "CN=C" or one of 2 other CAs`},
		{[]*testpki.CA{cas[0], cas[0]}, `"CN=A"`},
	} {
		_, no := trusting(t, row.cas...).Verify(nil, time.Now())
		if no == nil || no.Reason != refusal.NoClientCertificate || no.Response("").Hint != before+row.want+behind {
			t.Errorf("got %+v, want %s", no, row.want)
		}
	}
	// A name is somebody else's text, in the client's terminal.
	odd := make([]*testpki.CA, 5)
	for i := range odd {
		odd[i] = testpki.MustCA(t, fmt.Sprintf("%d \x1b[31m\u202e\n%s", i, strings.Repeat("x", 3000)))
	}
	_, no := trusting(t, odd...).Verify(nil, time.Now())
	hint := no.Response("").Hint
	if strings.ContainsAny(hint, "\x1b\n\u202e") || len(hint) > 800 || !strings.HasSuffix(hint, behind) {
		t.Errorf("%d bytes: %q", len(hint), hint)
	}
	var nobody *ClientVerifier
	if _, no := nobody.Verify(nil, time.Now()); no.Response("").Hint != strings.TrimSuffix(before, " If they are set, the file does not exist, or the client held the certificate back: it has to be issued by ") {
		t.Errorf("without CAs: %q", no.Response("").Hint)
	}
}
