package tlsconf

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// ok stands for no refusal.
const ok = refusal.Reason(0)

// judged is one presented chain and what is to be said of it.
type judged struct {
	name   string
	chain  []*x509.Certificate
	want   refusal.Reason
	detail string // what the detail says behind the certificate's name
}

func (j judged) check(t *testing.T, trust *ClientVerifier, now time.Time) {
	t.Helper()
	identity, no := trust.Verify(j.chain, now)
	switch {
	case (identity == nil) == (no == nil):
		t.Errorf("%s: identity %v and refusal %v", j.name, identity, no)
	case no == nil && j.want != ok:
		t.Errorf("%s: accepted, want %v", j.name, j.want)
	case no != nil && (no.Reason != j.want || !strings.HasSuffix(no.Detail, j.detail)):
		t.Errorf("%s:\ngot  %v: %s\nwant %v: … %s", j.name, no.Reason, no.Detail, j.want, j.detail)
	}
}

func TestMatrixOfClientCertificates(t *testing.T) {
	now := time.Now()
	space := testpki.MustCA(t, "Space CA")
	foreign := testpki.MustCA(t, "Foreign CA")
	impostor := testpki.MustCA(t, "Space CA") // the name, not the key
	below := space.MustIntermediate(t, testpki.Authority("Intermediate"))
	zero := 0
	short := testpki.Authority("No more CAs")
	short.PathLen = &zero
	shortCA := space.MustIntermediate(t, short)
	tooDeep := shortCA.MustIntermediate(t, testpki.Authority("Too deep"))
	named := testpki.Authority("Named")
	named.PermittedDNS = []string{"good.example"}
	namedCA := space.MustIntermediate(t, named)
	servers := testpki.Authority("Servers only")
	servers.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	serversCA := space.MustIntermediate(t, servers)
	oldCA := testpki.Authority("Expired CA")
	oldCA.NotBefore, oldCA.NotAfter = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	expiredCA := space.MustIntermediate(t, oldCA)
	newCA := testpki.Authority("Future CA")
	newCA.NotBefore = now.Add(time.Hour)
	futureCA := space.MustIntermediate(t, newCA)
	notSigning := testpki.Authority("May not sign")
	notSigning.KeyUsage = x509.KeyUsageDigitalSignature
	mute := space.MustIntermediate(t, notSigning)
	weakCA := testpki.Authority("Weak CA")
	weakCA.Key = testpki.RSA1024
	weak := space.MustIntermediate(t, weakCA)
	plain := space.MustIssue(t, testpki.Client("app"))

	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	issue := func(ca *testpki.CA, change func(*testpki.Template)) []*x509.Certificate {
		t.Helper()
		template := testpki.Client("app")
		if change != nil {
			change(&template)
		}
		return ca.MustIssue(t, template).Chain
	}
	with := func(chain []*x509.Certificate, more ...*x509.Certificate) []*x509.Certificate {
		return append(append([]*x509.Certificate{}, chain...), more...)
	}
	purposes := func(list ...x509.ExtKeyUsage) func(*testpki.Template) {
		return func(c *testpki.Template) { c.ExtKeyUsage = list }
	}
	usage := func(bits x509.KeyUsage) func(*testpki.Template) {
		return func(c *testpki.Template) { c.KeyUsage = bits }
	}
	key := func(kind testpki.Key) func(*testpki.Template) { return func(c *testpki.Template) { c.Key = kind } }
	extension := func(e pkix.Extension) func(*testpki.Template) {
		return func(c *testpki.Template) { c.Extra = []pkix.Extension{e} }
	}
	valid := func(from, to time.Duration) func(*testpki.Template) {
		return func(c *testpki.Template) { c.NotBefore, c.NotAfter = now.Add(from), now.Add(to) }
	}

	for _, row := range []judged{
		// Who issued it.
		{"issued by the space's CA", issue(space, nil), ok, ""},
		{"with the root in the chain", with(issue(space, nil), space.Cert), ok, ""},
		{"through an intermediate that is sent", issue(below, nil), ok, ""},
		{"through an intermediate, in the wrong order", with(issue(below, nil)[:1], space.Cert, below.Cert), ok, ""},
		{"through an intermediate that is not sent", issue(below, nil)[:1], refusal.CertificateUnknownCA, `was issued by "CN=Intermediate", which this server does not trust.`},
		{"by another CA", issue(foreign, nil), refusal.CertificateUnknownCA, `was issued by "CN=Foreign CA", which this server does not trust.`},
		{"by another CA, which is sent", with(issue(foreign, nil), foreign.Cert), refusal.CertificateUnknownCA, `"CN=Foreign CA", which this server does not trust.`},
		{"by another CA of the same name", issue(impostor, nil), refusal.CertificateUnknownCA, ""},
		{"with a strange certificate beside it", with(issue(space, nil), foreign.Cert), ok, ""},
		{"self-signed", selfSignedClient(t), refusal.CertificateUnknownCA, `was issued by "CN=app", which this server does not trust.`},
		{"by a leaf", issue(plain.Issuer(), nil), refusal.CertificateUnknownCA, ""},
		{"by a CA that may not sign", issue(mute, nil), refusal.CertificateUnknownCA, ""},
		{"a CA more than the path length allows", issue(tooDeep, nil), refusal.CertificateInvalid, `"CN=No more CAs" allows (path length).`},
		{"as many CAs as the path length allows", issue(shortCA, nil), ok, ""},
		{"a name outside of the name constraints", issue(namedCA, func(c *testpki.Template) { c.DNSNames = []string{"bad.example"} }), refusal.CertificateInvalid, "(name constraints)."},
		{"a name inside of them", issue(namedCA, func(c *testpki.Template) { c.DNSNames = []string{"app.good.example"} }), ok, ""},
		{"by a CA for servers", issue(serversCA, nil), refusal.CertificateWrongPurpose, "was issued by a CA that may not issue certificates for TLS clients."},
		{"by an expired CA", issue(expiredCA, nil), refusal.CertificateExpired, `was issued by the CA "CN=Expired CA", which expired at ` + formatTime(oldCA.NotAfter) + "."},

		{"by a CA that is not valid yet", issue(futureCA, nil), refusal.CertificateNotYetValid, `was issued by the CA "CN=Future CA", which is not valid before ` + formatTime(newCA.NotBefore) + "."},

		// What it is for.
		{"no extended key usage", issue(space, purposes()), refusal.CertificateWrongPurpose, "has no extended key usage, and clientAuth is required."},
		{"any extended key usage", issue(space, purposes(x509.ExtKeyUsageAny)), refusal.CertificateWrongPurpose, "is not for TLS clients: its extended key usage lacks clientAuth."},
		{"any and clientAuth", issue(space, purposes(x509.ExtKeyUsageAny, x509.ExtKeyUsageClientAuth)), ok, ""},
		{"serverAuth", issue(space, purposes(x509.ExtKeyUsageServerAuth)), refusal.CertificateWrongPurpose, "is not for TLS clients: its extended key usage lacks clientAuth."},
		{"serverAuth and clientAuth", issue(space, purposes(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)), ok, ""},
		{"codeSigning", issue(space, purposes(x509.ExtKeyUsageCodeSigning)), refusal.CertificateWrongPurpose, ""},
		{"no key usage", issue(space, usage(0)), ok, ""},
		{"keyEncipherment only", issue(space, usage(x509.KeyUsageKeyEncipherment)), refusal.CertificateWrongPurpose, "may not sign: its key usage lacks digitalSignature."},
		{"digitalSignature and more", issue(space, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment)), ok, ""},
		{"an empty key usage", issue(space, func(c *testpki.Template) {
			c.KeyUsage = 0
			c.Extra = []pkix.Extension{{Id: oidKeyUsage, Critical: true, Value: []byte{3, 2, 7, 0}}}
		}), refusal.CertificateWrongPurpose, "lacks digitalSignature."},
		{"a CA certificate", []*x509.Certificate{below.Cert}, refusal.CertificateWrongPurpose, "is the certificate of a CA, not of a client."},
		{"the root itself", []*x509.Certificate{space.Cert}, refusal.CertificateWrongPurpose, "is the certificate of a CA, not of a client."},
		{"a CA certificate for clients", issue(space, func(c *testpki.Template) { c.IsCA = true }), refusal.CertificateWrongPurpose, ""},
		{"an unknown critical extension", issue(space, extension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})), refusal.CertificateInvalid, "has a critical extension that is unknown here."},
		{"an unknown extension that is not critical", issue(space, extension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}})), ok, ""},

		// How strong it is.
		{"ECDSA P-384", issue(space, key(testpki.P384)), ok, ""},
		{"ECDSA P-521", issue(space, key(testpki.P521)), ok, ""},
		{"Ed25519", issue(space, key(testpki.Ed25519)), ok, ""},
		{"RSA 2048", issue(space, key(testpki.RSA2048)), ok, ""},
		{"RSA 1024", issue(space, key(testpki.RSA1024)), refusal.CertificateWeakKey, "is too weak: its RSA key has 1024 bits, not 2048 to 4096."},
		{"ECDSA P-224", issue(space, key(testpki.P224)), refusal.CertificateWeakKey, "is too weak: its ECDSA key is on the curve P-224, not P-256, P-384 or P-521."},
		{"signed with SHA-1", issue(space, func(c *testpki.Template) { c.Signature = x509.ECDSAWithSHA1 }), refusal.CertificateWeakKey, "is too weak: it is signed with ECDSA-SHA1; SHA-256 or stronger is needed."},
		{"below a CA with RSA 1024", issue(weak, nil), refusal.CertificateWeakKey, `came with "CN=Weak CA", which can't be accepted: its RSA key has 1024 bits, not 2048 to 4096.`},

		// When it is valid.
		{"expired", issue(space, valid(-2*time.Hour, -time.Hour)), refusal.CertificateExpired, "has expired."},
		{"not yet valid", issue(space, valid(time.Hour, 2*time.Hour)), refusal.CertificateNotYetValid, "is not valid before " + formatTime(now.Add(time.Hour)) + "."},
		{"expired and of another CA", issue(foreign, valid(-2*time.Hour, -time.Hour)), refusal.CertificateExpired, "has expired."},

		// How many there are.
		{"none", nil, refusal.NoClientCertificate, "The client sent no certificate."},
		{"twenty", with(issue(space, nil), repeat(space.Cert, 19)...), ok, ""},
		{"twenty-one", with(issue(space, nil), repeat(space.Cert, 20)...), refusal.CertificateInvalid, "The client sent 21 certificates. At most 20 are accepted."},
	} {
		row.check(t, trust, now)
	}
}

func TestRSAKeysAreBoundedAbove(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	template := testpki.Client("app")
	cert := *space.MustIssue(t, template).Cert
	for _, row := range []struct {
		bits uint
		want refusal.Reason
	}{{2047, refusal.CertificateWeakKey}, {4097, refusal.CertificateWeakKey}, {16384, refusal.CertificateWeakKey}, {2048, ok}, {4096, ok}} {
		// The key is only measured, so it need not be one: making these takes minutes.
		cert.PublicKey = rsaOf(row.bits)
		judged{"RSA", []*x509.Certificate{&cert}, row.want, ""}.check(t, trust, time.Now())
	}
}

func TestOnlyStrongSignatureAlgorithmsPass(t *testing.T) {
	// crypto/x509 can't make a certificate with an MD5 signature, so the rule is asked itself.
	for algorithm := x509.UnknownSignatureAlgorithm; algorithm <= x509.PureEd25519; algorithm++ {
		name := algorithm.String()
		strong := strings.Contains(name, "SHA256") || strings.Contains(name, "SHA384") || strings.Contains(name, "SHA512") || name == "Ed25519"
		strong = strong && !strings.HasPrefix(name, "DSA")
		if got := checkSignature(algorithm) == nil; got != strong {
			t.Errorf("%s: accepted is %v", name, got)
		}
	}
}

func TestRSAPSSClientKeyIsRefused(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	pair, err := space.IssueRSAPSS(testpki.Client("app"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ParseCertificates(pair.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	judged{"RSA-PSS", chain, refusal.CertificateWeakKey, "its key is not of the kind ECDSA, Ed25519 or RSA."}.
		check(t, mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}}), time.Now())
}

func TestValidityEndsWithItsLastSecond(t *testing.T) {
	from := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	to := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	authority := testpki.Authority("Space CA")
	authority.NotBefore, authority.NotAfter = from.Add(-time.Hour), to.Add(time.Hour)
	space := testpki.MustNewCA(t, authority)
	template := testpki.Client("app")
	template.NotBefore, template.NotAfter, template.Serial = from, to, big.NewInt(0x1f0a)
	chain := space.MustIssue(t, template).Chain
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	const name = `Client certificate "CN=app" (serial 1f:0a, valid until 2026-11-22 10:00:00 UTC) `
	for _, row := range []struct {
		now    time.Time
		want   refusal.Reason
		detail string
	}{
		{from.Add(-time.Second), refusal.CertificateNotYetValid, name + "is not valid before 2026-11-01 10:00:00 UTC."},
		{from, ok, ""},
		{from.Add(time.Second), ok, ""},
		{to.Add(-time.Second), ok, ""},
		{to, ok, ""},
		{to.Add(time.Second), refusal.CertificateExpired, name + "has expired."},
		{authority.NotAfter.Add(time.Second), refusal.CertificateExpired, name + "has expired."},
	} {
		judged{row.now.String(), chain, row.want, row.detail}.check(t, trust, row.now)
	}
}

func TestNilTrustAcceptsNobody(t *testing.T) {
	leaf := testpki.MustCA(t, "Space CA").MustIssue(t, testpki.Client("app"))
	var trust *ClientVerifier
	judged{"nil", leaf.Chain, refusal.CertificateUnknownCA, ""}.check(t, trust, time.Now())
	judged{"nil, no certificate", nil, refusal.NoClientCertificate, ""}.check(t, trust, time.Now())
	if len(trust.CAs())+len(trust.CRLs()) > 0 {
		t.Error("nil has CAs")
	}
}

func TestNamesInDetailsCannotActOnATerminal(t *testing.T) {
	foreign := testpki.MustCA(t, "Foreign\x1b[2J\u202e CA")
	space := testpki.MustCA(t, "Space CA")
	leaf := foreign.MustIssue(t, testpki.Client("app\r\n\x00\" (serial 00"+strings.Repeat("x", 70_000)))
	_, no := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}}).Verify(leaf.Chain, time.Now())
	if no == nil || no.Reason != refusal.CertificateUnknownCA {
		t.Fatalf("got %v", no)
	}
	if strings.ContainsAny(no.Detail, "\r\n\x00\x1b\u202e") || strings.Contains(no.Detail, `app"`) || len(no.Detail) > 600 {
		t.Errorf("the detail is %q", no.Detail)
	}
}

func TestCertificatesAreNamedByWhatTheyHave(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}})
	for want, template := range map[string]testpki.Template{
		`Client certificate "CN=app" (serial 07, `:            {CommonName: "app", DNSNames: []string{"a.example"}},
		`Client certificate "DNS:a.example" (serial 07, `:     {DNSNames: []string{"a.example", "b.example"}},
		`Client certificate "URI:spiffe://a/b" (serial 07, `:  {URIs: []string{"spiffe://a/b"}},
		`Client certificate without a subject (serial 07, va`: {},
	} {
		template.Serial = big.NewInt(7)
		_, no := trust.Verify(space.MustIssue(t, template).Chain, time.Now())
		if no == nil || !strings.HasPrefix(no.Detail, want) {
			t.Errorf("got %v, want %s…", no, want)
		}
	}
}

func TestIdentityIsThatOfTheLeaf(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	template := testpki.Client("app")
	template.DNSNames, template.URIs, template.Serial = []string{"App.example"}, []string{"spiffe://space/App"}, big.NewInt(0xff00)
	leaf := space.MustIssue(t, template)
	id, no := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}}).Verify(leaf.Chain, time.Now())
	if no != nil {
		t.Fatal(no)
	}
	if id.Subject != "CN=app" || id.CommonName != "app" || id.Issuer != "CN=Space CA" || id.Serial != "ff:00" ||
		!id.NotAfter.Equal(leaf.Cert.NotAfter) || !id.NotBefore.Equal(leaf.Cert.NotBefore) {
		t.Errorf("got %+v", id)
	}
	if !id.HasDNS("app.EXAMPLE") || id.HasDNS("example") || !id.HasURI("spiffe://space/App") || id.HasURI("spiffe://space/app") {
		t.Errorf("names %v %v", id.DNSNames, id.URIs)
	}
}

func TestTwoCommonNamesAreNone(t *testing.T) {
	commonName := asn1.ObjectIdentifier{2, 5, 4, 3}
	cert := testpki.MustCA(t, "Space CA").MustIssue(t, testpki.Client("app")).Cert
	twice := *cert
	twice.Subject.Names = []pkix.AttributeTypeAndValue{{Type: commonName, Value: "app"}, {Type: commonName, Value: "postgres"}}
	twice.Subject.CommonName = "postgres" // as crypto/x509 takes the last one
	if got := newIdentity(&twice).CommonName; got != "" {
		t.Errorf("got %q", got)
	}
}

func TestSerialsAreWrittenInPairs(t *testing.T) {
	for want, serial := range map[string]*big.Int{
		"00":                              big.NewInt(0),
		"01":                              big.NewInt(1),
		"ff":                              big.NewInt(255),
		"01:00":                           big.NewInt(256),
		strings.Repeat("ff:", 39) + "ff…": new(big.Int).SetBytes(bytes.Repeat([]byte{255}, 1000)),
	} {
		if got := FormatSerial(serial); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// An intermediate that two roots issued is sent in both forms, so that servers which know either root accept it.
func TestCrossSignedIntermediateServesEitherRoot(t *testing.T) {
	old, fresh := testpki.MustCA(t, "Old root"), testpki.MustCA(t, "New root")
	template := testpki.Authority("Intermediate")
	below := old.MustIntermediate(t, template)
	template.Signer = below.Key
	again := fresh.MustIntermediate(t, template)
	leaf := below.MustIssue(t, testpki.Client("app"))
	chain := []*x509.Certificate{leaf.Cert, below.Cert, again.Cert}
	for _, root := range []*testpki.CA{old, fresh} {
		trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}})
		judged{root.Cert.Subject.String(), chain, ok, ""}.check(t, trust, time.Now())
	}
}

func TestJudgeIsSafeForConcurrentUse(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	below := space.MustIntermediate(t, testpki.Authority("Intermediate"))
	trust := mustTrust(t, TrustFiles{
		CAs:  []File{{"ca", append(space.PEM(), below.PEM()...)}},
		CRLs: []File{{"crl", append(space.MustCRL(t, testpki.CRL{}), below.MustCRL(t, testpki.CRL{})...)}},
	})
	leaf := below.MustIssue(t, testpki.Client("app"))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				judged{"concurrent", leaf.Chain, ok, ""}.check(t, trust, time.Now())
			}
		})
	}
	group.Wait()
}

func selfSignedClient(t *testing.T) []*x509.Certificate {
	t.Helper()
	self, err := testpki.NewCA(testpki.Client("app"))
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{self.Cert}
}

// rsaOf is a number of the size, in place of a key.
func rsaOf(bits uint) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

func repeat(cert *x509.Certificate, times int) []*x509.Certificate {
	list := make([]*x509.Certificate, times)
	for i := range list {
		list[i] = cert
	}
	return list
}

func mustTrust(t testing.TB, files TrustFiles) *ClientVerifier {
	t.Helper()
	trust, err := NewClientVerifier(files)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}
