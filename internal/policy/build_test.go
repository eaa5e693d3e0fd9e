package policy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/testkit/testpki"
)

// The three ways to ask for client certificates.
const (
	required = "client_auth: required\nclient_ca: [ca.pem]\n"
	optional = "client_auth: optional\nclient_ca: [ca.pem]\n"
	off      = "client_auth: off\n"
)

// pkiFiles are the certificates of a space, as they lie in its policy directory.
type pkiFiles struct {
	space          *testpki.CA
	server, client *testpki.Pair
	contents       map[string][]byte
}

func newPKI(t testing.TB) *pkiFiles {
	t.Helper()
	authority, server := testpki.Authority("Space CA"), testpki.Server("db.example.com", "*.db.example.com")
	authority.NotAfter = time.Now().AddDate(1, 0, 0) // nothing runs out soon
	server.NotAfter = authority.NotAfter
	p := &pkiFiles{space: testpki.MustNewCA(t, authority)}
	p.server = p.space.MustIssue(t, server)
	p.client = p.space.MustIssue(t, testpki.Client("app"))
	p.contents = map[string][]byte{"ca.pem": p.space.PEM(), "server.crt": p.server.CertPEM, "server.key": p.server.KeyPEM}
	return p
}

// files are what was read of a policy with the lines, behind those that all of them have.
func (p *pkiFiles) files(t testing.TB, lines string) *Files {
	t.Helper()
	text := rulesLast("generation: test\ncertificates:\n  - {cert: server.crt, key: server.key, default: true}\n" + lines)
	parsed, err := config.ParsePolicy("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &Files{Policy: parsed, Contents: p.contents, Digest: fmt.Sprintf("digest of %d bytes", len(text))}
}

// nextKey is the end of a line before a key of the policy.
var nextKey = regexp.MustCompile(`\n\w`)

// rulesLast moves the rules to the end of a policy, or adds an empty list of them there.
func rulesLast(text string) string {
	start := strings.Index(text, "ip_rules")
	if start < 0 {
		return text + "ip_rules: []\n"
	}
	end := len(text)
	if next := nextKey.FindStringIndex(text[start:]); next != nil {
		end = start + next[0] + 1
	}
	return text[:start] + text[end:] + text[start:end]
}

// build builds what must be good.
func (p *pkiFiles) build(t testing.TB, lines string) *Snapshot {
	t.Helper()
	s, err := Builder{Backend: &backend.Target{}}.Build(p.files(t, lines), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serialOf(p *testpki.Pair) string {
	var pairs []string
	for _, b := range p.Cert.SerialNumber.Bytes() {
		pairs = append(pairs, fmt.Sprintf("%02x", b))
	}
	return strings.Join(pairs, ":")
}

func sixtyRules() string {
	var b strings.Builder
	b.WriteString("ip_rules:\n")
	for i := range 60 {
		fmt.Fprintf(&b, "  - {id: rule-%d, cidr: 10.%d.0.0/16, description: one of sixty}\n", i, i)
	}
	return b.String()
}

func TestSnapshotHoldsWhatThePolicySays(t *testing.T) {
	p := newPKI(t)
	p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{})
	now := time.Now()
	target := &backend.Target{Network: "unix", Address: "/run/db"}
	files := p.files(t, required+"client_crl: [list.pem]\n"+threeRules)
	s, err := Builder{Backend: target, MinVersion: tls.VersionTLS13}.Build(files, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case s.Generation != "test", s.Digest != files.Digest, !s.LoadedAt.Equal(now), s.Backend != target, s.ClientAuth != config.ClientAuthRequired:
		t.Errorf("snapshot is %+v", s)
	case len(s.Rules.Rules()) != 3 || s.Rules.Rules()[2].ExpiresAt.Year() != 2020:
		t.Errorf("rules are %+v", s.Rules.Rules())
	case len(s.Certificates) != 1 || s.Default != 0 || len(s.Trust.CAs()) != 1 || len(s.Trust.CRLs()) != 1:
		t.Errorf("%d certificates, default %d, %d CAs, %d lists", len(s.Certificates), s.Default, len(s.Trust.CAs()), len(s.Trust.CRLs()))
	case s.TLS.MinVersion != tls.VersionTLS13 || s.TLS.ClientAuth != tls.RequestClientCert:
		t.Errorf("TLS from %x on, client certificates %v", s.TLS.MinVersion, s.TLS.ClientAuth)
	}
	if auth := p.build(t, off).TLS.ClientAuth; auth != tls.NoClientCert {
		t.Errorf("with client_auth off, clients are asked: %v", auth)
	}
}

func TestProblemsNameLineAndFile(t *testing.T) {
	p := newPKI(t)
	other := p.space.MustIssue(t, testpki.Server("other.example.com"))
	stranger := testpki.MustCA(t, "Stranger CA")
	second := "  - {cert: second.crt, key: second.key}\n"
	current := p.build(t, required)

	for _, row := range []struct {
		name  string
		lines string
		files map[string][]byte
		want  []string
	}{
		{"a key of another certificate", second + required, map[string][]byte{"second.crt": other.CertPEM, "second.key": p.server.KeyPEM},
			[]string{`policy.yaml:4: certificates[1].key: "second.key" is refused: the key does not belong to the certificate "CN=other.example.com"`}},
		{"an empty certificate and an empty key", second + required, map[string][]byte{"second.crt": {}, "second.key": {}},
			[]string{`policy.yaml:4: certificates[1].cert: "second.crt" is refused: the file is empty`, `policy.yaml:4: certificates[1].key: "second.key" is refused: the file is empty`}},
		{"an encrypted key", second + required, map[string][]byte{"second.crt": other.CertPEM, "second.key": testpki.EncryptedPKCS8},
			[]string{`policy.yaml:4: certificates[1].key: "second.key" is refused: `, "encrypted"}},
		{"no CA", required, map[string][]byte{"ca.pem": other.CertPEM},
			[]string{`policy.yaml:5: client_ca[0]: "ca.pem" is refused: certificate 1, "CN=other.example.com": it is not the certificate of a CA`}},
		{"a list of another CA", required + "client_crl:\n  - list.pem\n", map[string][]byte{"list.pem": stranger.MustCRL(t, testpki.CRL{})},
			[]string{`policy.yaml: client_ca: is refused: there are revocation lists, but none of the CA "CN=Space CA", whose certificates could then not be checked; add its list to client_crl`}},
		{"half a list", required + "client_crl:\n  - list.pem\n", map[string][]byte{"list.pem": p.space.MustCRL(t, testpki.CRL{})[:100]},
			[]string{`policy.yaml:7: client_crl[0]: "list.pem" is refused: `}},
		{"a CA without a list", "client_auth: required\nclient_ca: [ca.pem, stranger.pem]\nclient_crl: [list.pem]\n",
			map[string][]byte{"stranger.pem": stranger.PEM(), "list.pem": p.space.MustCRL(t, testpki.CRL{})},
			[]string{`policy.yaml: client_ca: is refused: there are revocation lists, but none of the CA "CN=Stranger CA"`}},
		{"everything at once", second + "  - {cert: third.crt, key: third.key}\n" + required, map[string][]byte{
			"second.crt": {}, "second.key": other.KeyPEM, "third.crt": other.CertPEM, "third.key": {}, "ca.pem": {}},
			[]string{`policy.yaml:4: certificates[1].cert: "second.crt"`, `policy.yaml:5: certificates[2].key: "third.key"`, `policy.yaml:7: client_ca[0]: "ca.pem" is refused: the file is empty`}},
	} {
		contents := map[string][]byte{}
		for name, text := range p.contents {
			contents[name] = text
		}
		for name, text := range row.files {
			contents[name] = text
		}
		changed := &pkiFiles{contents: contents}
		s, err := Builder{Backend: &backend.Target{}}.Build(changed.files(t, row.lines), current, time.Now())
		if s != nil || err == nil {
			t.Errorf("%s: built", row.name)
			continue
		}
		if _, ok := err.(config.Problems); !ok {
			t.Errorf("%s: the error is a %T", row.name, err)
		}
		for _, want := range row.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s:\ngot  %v\nwant %s", row.name, err, want)
			}
		}
		if strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: the error shows a key", row.name)
		}
	}
}

// A rule or a revocation must come into force although a certificate has run out in the meantime.
func TestExpiredCertificateInForceStays(t *testing.T) {
	p := newPKI(t)
	before := p.build(t, required)
	later := p.server.Cert.NotAfter.Add(time.Hour)
	builder := Builder{Backend: &backend.Target{}}
	if _, err := builder.Build(p.files(t, required+threeRules), before, later); err != nil {
		t.Errorf("with the certificate in force: %v", err)
	}
	if _, err := builder.Build(p.files(t, required), nil, later); err != nil {
		t.Errorf("at a start: %v", err)
	}
}

// An expired certificate that is new must not keep a revocation from coming into force, nor take the place of one that
// is good.
func TestExpiredNewCertificateIsLeftOutAndTheRestIsInForce(t *testing.T) {
	p := newPKI(t)
	old := testpki.Server("db.example.com", "old.example.com")
	old.NotBefore, old.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	expired := p.space.MustIssue(t, old)
	second := p.space.MustIssue(t, testpki.Server("second.example.com"))
	before := p.build(t, required+threeRules)
	revoking := required + "revoked: ['" + serialOf(p.client) + "']\n" + threeRules
	builder := Builder{Backend: &backend.Target{}}
	for name, row := range map[string]struct {
		lines string
		files map[string]*testpki.Pair // by stem
		want  []*testpki.Pair          // that serve, the default first
	}{
		"in the place of the one that serves":  {revoking, map[string]*testpki.Pair{"server": expired}, []*testpki.Pair{p.server}},
		"under a new name, alone":              {revoking, map[string]*testpki.Pair{"server": expired}, []*testpki.Pair{p.server}},
		"beside the one that serves":           {"  - {cert: second.crt, key: second.key}\n" + revoking, map[string]*testpki.Pair{"second": expired}, []*testpki.Pair{p.server}},
		"in its place, beside another new one": {"  - {cert: second.crt, key: second.key}\n" + revoking, map[string]*testpki.Pair{"server": expired, "second": second}, []*testpki.Pair{p.server, second}},
	} {
		changed := &pkiFiles{contents: maps.Clone(p.contents)}
		for stem, pair := range row.files {
			changed.contents[stem+".crt"], changed.contents[stem+".key"] = pair.CertPEM, pair.KeyPEM
		}
		files := changed.files(t, row.lines)
		if strings.HasPrefix(name, "under a new name") {
			c := &files.Policy.Certificates[0]
			for _, f := range []*config.File{&c.Cert, &c.Key} {
				changed.contents["new-"+f.Path] = changed.contents[f.Path]
				f.Path = "new-" + f.Path
			}
		}
		s, err := builder.Build(files, before, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		q := Request{Addr: netip.MustParseAddr(office), Chain: p.client.Chain, User: "app", Now: time.Now()}
		if got := answerOf(s.Authorize(q)); got != "certificate_revoked" {
			t.Errorf("%s: the revoked client gets %s", name, got)
		}
		if len(s.LeftOut) != 1 || !strings.Contains(s.LeftOut.Error(), "is left out: it has expired on ") || !strings.Contains(s.LeftOut.Error(), "install its successor") {
			t.Errorf("%s: left out is %v", name, s.LeftOut)
		}
		var serve []*testpki.Pair
		for _, want := range row.want {
			for _, c := range s.Certificates {
				if c.Leaf.Equal(want.Cert) {
					serve = append(serve, want)
				}
			}
		}
		if len(s.Certificates) != len(row.want) || len(serve) != len(row.want) || !s.Certificates[s.Default].Leaf.Equal(row.want[0].Cert) {
			t.Errorf("%s: %d certificates serve, the default is %s", name, len(s.Certificates), s.Certificates[s.Default].Leaf.Subject)
		}
		// Looked at again, nothing has changed: what was left out is still new.
		if again, err := builder.Build(files, s, time.Now()); err != nil || len(again.LeftOut) != 1 || len(again.Certificates) != len(row.want) {
			t.Errorf("%s: again: %v", name, err)
		}
	}
}

// CAs that have all expired would let in nobody. What is in force already goes on, and so does a restart.
func TestNewCAsThatHaveExpiredAreRefused(t *testing.T) {
	p := newPKI(t)
	authority := func(name string, from, to time.Duration) []byte {
		template := testpki.Authority(name)
		template.NotBefore, template.NotAfter = time.Now().Add(from), time.Now().Add(to)
		return testpki.MustNewCA(t, template).PEM()
	}
	expired, other := authority("Expired CA", -48*time.Hour, -time.Hour), authority("Other expired CA", -48*time.Hour, -time.Hour)
	short := authority("Short-lived CA", -time.Hour, time.Hour)
	builder := Builder{Backend: &backend.Target{}}
	build := func(ca []byte, lines string, previous *Snapshot, now time.Time) (*Snapshot, error) {
		changed := &pkiFiles{contents: maps.Clone(p.contents)}
		changed.contents["ca.pem"] = ca
		return builder.Build(changed.files(t, lines), previous, now)
	}
	good, err := build(short, required, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	atStart, err := build(expired, required, nil, time.Now())
	if err != nil {
		t.Fatalf("at the start: %v", err)
	}
	withoutClients := p.build(t, off)
	const refused = `policy.yaml:5: client_ca[0]: "ca.pem" is refused: every CA of client_ca has expired, so it could let in nobody; use the CA that issues the clients' certificates now`
	for name, row := range map[string]struct {
		ca       []byte
		lines    string
		previous *Snapshot
		after    time.Duration
		refused  bool
	}{
		"in place of a good one":               {expired, required, good, 0, true},
		"where clients had no certificates":    {expired, required, withoutClients, 0, true},
		"beside a good one":                    {append(bytes.Clone(expired), short...), required, good, 0, false},
		"with client_auth off":                 {expired, off, good, 0, false},
		"it expired since, and a rule changes": {short, required + threeRules, good, 2 * time.Hour, false},
		"it expired before, and another did":   {other, required, atStart, 0, false},
	} {
		_, err := build(row.ca, row.lines, row.previous, time.Now().Add(row.after))
		if row.refused && (err == nil || err.Error() != refused) || !row.refused && err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A file that is not whole is never half a policy.
func TestTruncatedFileIsNeverBuilt(t *testing.T) {
	p := newPKI(t)
	p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{})
	files := p.files(t, required+"client_crl: [list.pem]\n")
	builder := Builder{Backend: &backend.Target{}}
	for name, whole := range p.contents {
		end := len(bytes.TrimRight(whole, "\n"))
		for cut := range end {
			contents := map[string][]byte{}
			for other, text := range p.contents {
				contents[other] = text
			}
			contents[name] = whole[:cut]
			files.Contents = contents
			if _, err := builder.Build(files, nil, time.Now()); err == nil {
				t.Errorf("%s is taken when it ends after %d of %d bytes", name, cut, end)
			}
		}
	}
}

// BenchmarkReload60Rules is what a change of the policy costs once it is read.
func BenchmarkReload60Rules(b *testing.B) {
	p := newPKI(b)
	p.contents["list.pem"] = p.space.MustCRL(b, testpki.CRL{})
	files := p.files(b, required+"client_crl: [list.pem]\n"+sixtyRules())
	builder := Builder{Backend: &backend.Target{}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := builder.Build(files, nil, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
