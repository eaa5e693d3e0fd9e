package authority

import (
	"crypto/ed25519"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// serverRequest is for a key of its own.
func serverRequest(t *testing.T, hosts ...string) Request {
	t.Helper()
	request, _ := clientRequest(t)
	request.CommonName, request.URIs, request.Hosts = "", nil, hosts
	return request
}

func TestServerCertificateIsForItsHostsOnly(t *testing.T) {
	ca := newCA(t)
	issued, err := ca.IssueServer(serverRequest(t, "DB.Example", "*.db.example", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "db.example"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, issued.CertificatePEM)[0]
	if !slices.Equal(leaf.DNSNames, []string{"db.example", "*.db.example"}) {
		t.Errorf("DNS names %q", leaf.DNSNames)
	}
	if len(leaf.IPAddresses) != 2 || !leaf.IPAddresses[0].Equal(net.IPv4(192, 0, 2, 1)) || leaf.IPAddresses[1].String() != "2001:db8::1" {
		t.Errorf("addresses %v", leaf.IPAddresses)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || leaf.IsCA {
		t.Errorf("extended key usage %v, CA %v", leaf.ExtKeyUsage, leaf.IsCA)
	}
	if leaf.Subject.CommonName != "db.example" {
		t.Errorf("common name %q, want the first host", leaf.Subject.CommonName)
	}
}

// X.520 bounds the common name, but not the alternative names.
func TestLongHostIsNoCommonName(t *testing.T) {
	long := strings.Repeat("a.", 40) + "example"
	issued, err := newCA(t).IssueServer(serverRequest(t, long))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := parse(t, issued.CertificatePEM)[0]; leaf.Subject.CommonName != "" || leaf.VerifyHostname(long) != nil {
		t.Errorf("common name %q, names %q", leaf.Subject.CommonName, leaf.DNSNames)
	}
}

func TestHostsAreDNSNamesOrAddresses(t *testing.T) {
	for host, good := range map[string]bool{
		"localhost":                       true,
		"db-1.example":                    true,
		"xn--bcher-kva.example":           true,
		"*.example":                       true,
		"1.example":                       true,
		"192.0.2.1":                       true,
		"2001:db8::1":                     true,
		strings.Repeat("a", 63) + ".b":    true,
		strings.Repeat("a.", 126) + "b":   true,
		"":                                false,
		"*":                               false,
		"a.*.example":                     false,
		"*.*.example":                     false,
		"db*.example":                     false,
		"db_1.example":                    false,
		"-db.example":                     false,
		"db-.example":                     false,
		"db..example":                     false,
		"db.example.":                     false,
		"bücher.example":                  false,
		"db.example:5432":                 false,
		"db example":                      false,
		"db.example\x00.evil":             false,
		"192.0.2.256":                     false,
		"192.0.2":                         false,
		"fe80::1%eth0":                    false,
		strings.Repeat("a", 64) + ".b":    false,
		strings.Repeat("a.", 126) + "abc": false,
	} {
		if err := CheckHost(host); (err == nil) != good {
			t.Errorf("%q: %v", host, err)
		}
		if _, _, err := parseHosts([]string{host}); (err == nil) != good {
			t.Errorf("%q in a certificate: %v", host, err)
		}
	}
}

func TestRequestsThatCantBeMetAreRefused(t *testing.T) {
	ca := newCA(t)
	weak, err := testpki.RSA1024.New()
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := []struct {
		edit func(*Request)
		want string
	}{
		{func(r *Request) { r.CommonName = "" }, "common name is empty"},
		{func(r *Request) { r.CommonName = " " }, "common name is empty"},
		{func(r *Request) { r.CommonName = strings.Repeat("é", 33) }, "66 bytes"},
		{func(r *Request) { r.CommonName = "a\nb" }, "unprintable character"},
		{func(r *Request) { r.CommonName = "a\xff" }, "unprintable character"},
		{func(r *Request) { r.URIs = []string{"database:1", "relative"} }, `"relative" is not a URI`},
		{func(r *Request) { r.URIs = []string{"urn:ü"} }, "is not a URI"},
		{func(r *Request) { r.URIs = []string{"URN:x"} }, "is not a URI"},
		{func(r *Request) { r.URIs = []string{"urn:" + strings.Repeat("x", 1100)} }, "is not a URI"},
		{func(r *Request) { r.URIs = make([]string, 101) }, "101 URIs"},
		{func(r *Request) { r.Hosts = []string{"db.example"} }, "can't have hosts"},
		{func(r *Request) { r.PublicKey = weak.Public() }, "1024 bits"},
		{func(r *Request) { r.PublicKey = nil }, "the key is not of the kind ECDSA, Ed25519 or RSA"},
		{func(r *Request) { r.NotAfter = r.NotBefore }, "before it becomes valid"},
		{func(r *Request) { r.NotBefore, r.NotAfter = start.AddDate(11, 0, 0), start.AddDate(12, 0, 0) }, "rotate the CA first"},
		{func(r *Request) { r.NotBefore, r.NotAfter = start.AddDate(-2, 0, 0), start.AddDate(-1, 0, 0) }, "does not cover the certificate"},
	}
	for _, test := range client {
		request, _ := clientRequest(t)
		test.edit(&request)
		_, err := ca.IssueClient(request)
		wantError(t, err, test.want)
	}
	server := []struct {
		edit func(*Request)
		want string
	}{
		{func(r *Request) { r.Hosts = nil }, "needs a host"},
		{func(r *Request) { r.Hosts = make([]string, 101) }, "101 hosts"},
		{func(r *Request) { r.URIs = []string{"urn:x:1"} }, "can't have URIs"},
		{func(r *Request) { r.CommonName = "a\tb" }, "unprintable character"},
		{func(r *Request) { r.PublicKey = edwards }, "channel binding"},
	}
	for _, test := range server {
		request := serverRequest(t, "db.example")
		test.edit(&request)
		_, err := ca.IssueServer(request)
		wantError(t, err, test.want)
	}
}

func TestLeafNeverOutlivesWhatIsAboveIt(t *testing.T) {
	rootTemplate := testpki.Authority("root")
	rootTemplate.NotBefore, rootTemplate.NotAfter = start, start.AddDate(0, 1, 0)
	root := testpki.MustNewCA(t, rootTemplate)
	template := testpki.Authority("intermediate") // which ends after its root
	template.NotBefore, template.NotAfter = start.Add(time.Minute), start.AddDate(1, 0, 0)
	pair := root.MustIssue(t, template)
	ca, err := ParseCA(append(pair.CertPEM, root.PEM()...), pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	request, _ := clientRequest(t)
	request.NotAfter = start.AddDate(10, 0, 0)
	issued, err := ca.IssueClient(request)
	if err != nil {
		t.Fatal(err)
	}
	if !issued.NotBefore.Equal(template.NotBefore) || !issued.NotAfter.Equal(rootTemplate.NotAfter) {
		t.Errorf("valid from %v to %v, want from %v to %v", issued.NotBefore, issued.NotAfter, template.NotBefore, rootTemplate.NotAfter)
	}
}

func TestSerialsAreNeverRepeated(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		serial := newSerial()
		text := formatSerial(serial)
		if seen[text] || serial.Sign() <= 0 {
			t.Fatalf("serial %s", text)
		}
		seen[text] = true
		if again, err := parseSerial(text); err != nil || again.Cmp(serial) != 0 {
			t.Fatalf("%s is read as %v, %v", text, again, err)
		}
	}
}
