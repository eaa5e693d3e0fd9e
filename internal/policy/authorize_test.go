package policy

import (
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// Addresses of the tests: the first two are in a rule, the third is in one that has expired, the last in none.
const (
	office  = "203.0.113.7"
	vpn     = "2001:db8:7::1"
	guest   = "198.51.100.9"
	outside = "192.0.2.200"
)

const threeRules = `ip_rules:
  - {id: office, cidr: 203.0.113.0/24}
  - {id: vpn, cidr: "2001:db8:7::/48"}
  - {id: guest, cidr: 198.51.100.0/24, expires_at: 2020-01-01T00:00:00Z}
`

// answerOf is what a question is answered: the rule that let it in, or the refusal.
func answerOf(grant Grant, refused *refusal.Refusal) string {
	if refused != nil {
		return refused.Reason.String()
	}
	return "rule " + grant.Rule.ID
}

func subjectOf(p *testpki.Pair) string {
	if p == nil {
		return "no certificate"
	}
	return p.Cert.Subject.String()
}

func TestGate(t *testing.T) {
	p := newPKI(t)
	other := p.space.MustIssue(t, testpki.Client("other"))
	named := p.space.MustIssue(t, testpki.Template{CommonName: "app", DNSNames: []string{"app.example.com"},
		URIs: []string{"spiffe://example.com/app", "urn:pgmtls:database:1"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	old := testpki.Client("app")
	old.NotBefore, old.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	expired := p.space.MustIssue(t, old)
	stranger := testpki.MustCA(t, "Stranger CA").MustIssue(t, testpki.Client("app"))
	none := (*testpki.Pair)(nil)
	const (
		ofThisDatabase    = "identities: [{uri: 'urn:pgmtls:database:1', any_user: true}]"
		ofAnotherDatabase = "identities: [{uri: 'urn:pgmtls:database:2', any_user: true}]"
	)

	for _, row := range []struct {
		auth, identities string
		addr             string
		certificate      *testpki.Pair
		user             string
		want             string
	}{
		// The address comes first, whatever else there is.
		{required, "", outside, p.client, "app", "address_not_allowed"},
		{required, "", outside, none, "app", "address_not_allowed"},
		{off, "", outside, none, "app", "address_not_allowed"},
		{required, "", guest, p.client, "app", "address_not_allowed"},
		{required, "", "::ffff:192.0.2.200", p.client, "app", "address_not_allowed"},
		{required, "", "::ffff:203.0.113.7", p.client, "app", "rule office"},
		{required, "", vpn, p.client, "app", "rule vpn"},
		{required, "", "", p.client, "app", "address_not_allowed"},

		// Then the certificate.
		{required, "", office, p.client, "app", "rule office"},
		{required, "", office, none, "app", "no_client_certificate"},
		{required, "", office, stranger, "app", "certificate_unknown_ca"},
		{required, "", office, expired, "app", "certificate_expired"},
		{required, "", office, p.server, "app", "certificate_wrong_purpose"},
		{required + "revoked: ['" + serialOf(p.client) + "']\n", "", office, p.client, "app", "certificate_revoked"},
		{required + "revoked: ['" + serialOf(p.client) + "']\n", "", office, other, "app", "rule office"},
		{optional, "", office, none, "app", "rule office"},
		{optional, "", office, p.client, "app", "rule office"},
		{optional, "", office, stranger, "app", "certificate_unknown_ca"},
		{optional, "", office, expired, "app", "certificate_expired"},
		{off, "", office, none, "app", "rule office"},
		{off, "", office, stranger, "app", "rule office"},

		// Then the user.
		{required, "identities: [{subject_cn: app, users: [app, reports]}]", office, p.client, "app", "rule office"},
		{required, "identities: [{subject_cn: app, users: [app, reports]}]", office, p.client, "reports", "rule office"},
		{required, "identities: [{subject_cn: app, users: [app, reports]}]", office, p.client, "postgres", "user_not_allowed"},
		{required, "identities: [{subject_cn: app, users: [app, reports]}]", office, p.client, "App", "user_not_allowed"},
		{required, "identities: [{subject_cn: app, users: [app, reports]}]", office, p.client, "", "user_not_allowed"},
		{required, "identities: [{subject_cn: app, users: [app]}]", office, other, "app", "user_not_allowed"},
		{required, "identities: [{subject_cn: App, users: [app]}]", office, p.client, "app", "user_not_allowed"},
		{required, "identities: [{subject_cn: app, users: [app]}]", office, none, "app", "no_client_certificate"},
		{required, "identities: [{subject_cn: app, users: [app]}]", outside, p.client, "app", "address_not_allowed"},
		{required, "identities: [{dns: app.example.com, users: [app]}]", office, named, "app", "rule office"},
		{required, "identities: [{dns: example.com, users: [app]}]", office, named, "app", "user_not_allowed"},
		{required, "identities: [{dns: app, users: [app]}]", office, p.client, "app", "user_not_allowed"},
		{required, "identities: [{uri: 'spiffe://example.com/app', users: [app]}]", office, named, "app", "rule office"},
		{required, "identities: [{uri: 'spiffe://example.com/app/', users: [app]}]", office, named, "app", "user_not_allowed"},
		{required, ofThisDatabase, office, named, "app", "rule office"},
		{required, ofThisDatabase, office, named, "postgres", "rule office"},
		{required, ofThisDatabase, office, named, "", "user_not_allowed"},
		{required, ofThisDatabase, office, p.client, "app", "user_not_allowed"},
		{required, ofThisDatabase, office, none, "app", "no_client_certificate"},
		{required, ofThisDatabase, office, stranger, "app", "certificate_unknown_ca"},
		{required, ofThisDatabase, outside, named, "app", "address_not_allowed"},
		{required + "revoked: ['" + serialOf(named) + "']\n", ofThisDatabase, office, named, "app", "certificate_revoked"},
		{required, ofAnotherDatabase, office, named, "app", "user_not_allowed"},
		{required, ofAnotherDatabase, office, p.client, "app", "user_not_allowed"},
		{required, "identities: [{uri: 'urn:pgmtls:database:1/', any_user: true}]", office, named, "app", "user_not_allowed"},
		{required, "identities: [{uri: 'urn:pgmtls:database:2', any_user: true}, {subject_cn: app, users: [app]}]", office, named, "app", "rule office"},
		{required, "identities: [{uri: 'urn:pgmtls:database:2', any_user: true}, {subject_cn: app, users: [app]}]", office, named, "postgres", "user_not_allowed"},
		{required, "identities: [{subject_cn: app, users: [app]}, {uri: 'urn:pgmtls:database:1', any_user: true}]", office, named, "postgres", "rule office"},
		{required, "identities: [{serial: '" + serialOf(other) + "', any_user: true}]", office, p.client, "app", "user_not_allowed"},
		{required, "identities: [{subject_cn: app, users: [app], any_user: false}]", office, named, "postgres", "user_not_allowed"},
		{required, "identities: [{serial: '" + serialOf(other) + "', users: [app]}]", office, other, "app", "rule office"},
		{required, "identities: [{serial: '" + serialOf(other) + "', users: [app]}]", office, p.client, "app", "user_not_allowed"},
		{required, "identities: [{subject_cn: nobody, users: [app]}, {subject_cn: app, users: [app]}]", office, p.client, "app", "rule office"},
	} {
		s := p.build(t, row.auth+threeRules+row.identities+"\n")
		q := Request{User: row.user, Database: "shop", Now: time.Now()}
		q.Addr, _ = netip.ParseAddr(row.addr)
		q.Addr = q.Addr.Unmap()
		if row.certificate != nil {
			q.Chain = row.certificate.Chain
		}
		grant, refused := s.Authorize(q)
		if got := answerOf(grant, refused); got != row.want {
			t.Errorf("%s from %q with %s, under %s%s: %s, want %s", row.user, row.addr, subjectOf(row.certificate), row.auth, row.identities, got, row.want)
		}
		if refused != nil && (grant.Rule != nil || grant.Identity != nil) {
			t.Errorf("a refusal comes with a grant: %+v", grant)
		}
		if refused == nil && grant.Generation != "test" {
			t.Errorf("granted by generation %q", grant.Generation)
		}
		if admitted := s.Admits(q.Addr, q.Now); admitted != (row.want != "address_not_allowed") {
			t.Errorf("%s: admitted %v, and %s", row.addr, admitted, row.want)
		}
		// A cancel is asked the same, but for the user.
		want := row.want
		if want == "user_not_allowed" {
			want = "rule office"
		}
		if got := answerOf(s.AuthorizeCancel(q)); got != want {
			t.Errorf("a cancel from %s, %s: %s, want %s", row.addr, row.auth, got, want)
		}
	}
}

func TestRefusalsSayWhatWasSeenAndWhatToDo(t *testing.T) {
	p := newPKI(t)
	s := p.build(t, required+threeRules+"identities: [{subject_cn: app, users: [else]}]\n")
	for _, row := range []struct {
		q    Request
		want refusal.Response
	}{
		{Request{Addr: netip.MustParseAddr(outside), User: "app", Database: "shop"}, refusal.Response{SQLState: "28000",
			Message: `no allowlist entry for host "192.0.2.200", user "app", database "shop"`,
			Hint:    "The connection comes from the IPv4 address 192.0.2.200. Add 192.0.2.200/32 to the database's IP rules."}},
		{Request{Addr: netip.MustParseAddr("fe80::1%eth0"), User: "a\x1bpp", Database: strings.Repeat("x", 200)}, refusal.Response{SQLState: "28000",
			Message: `no allowlist entry for host "fe80::1", user "a\x1bpp", database "` + strings.Repeat("x", 128) + `…"`,
			Hint:    "The connection comes from the IPv6 address fe80::1. Add fe80::1/128 to the database's IP rules."}},
		{Request{Addr: netip.MustParseAddr(office), User: "a\nb", Chain: p.client.Chain, Now: time.Now()}, refusal.Response{SQLState: "28000",
			Message: `certificate authentication failed for user "a\nb"`,
			Detail:  `Client certificate "CN=app" (serial ` + serialOf(p.client) + `) is not for this user.`,
			Hint:    "Connect as a user that this client certificate is for."}},
	} {
		_, refused := s.Authorize(row.q)
		if refused == nil {
			t.Errorf("%+v is let in", row.q)
		} else if got := refused.Response(""); got != row.want {
			t.Errorf("got  %+v\nwant %+v", got, row.want)
		}
	}
}

// A space's CA issues the certificates of several databases. What such a client reads must not depend on the way in which
// an entry gives its users.
func TestCertificateOfAnotherDatabaseIsToldThatItFailed(t *testing.T) {
	p := newPKI(t)
	template := testpki.Client("app")
	template.URIs = []string{"urn:pgmtls:database:2"}
	neighbour := p.space.MustIssue(t, template)
	s := p.build(t, required+threeRules+"identities: [{uri: 'urn:pgmtls:database:1', any_user: true}]\n")
	for _, pair := range []*testpki.Pair{neighbour, p.client} { // the other has no URI at all
		_, refused := s.Authorize(Request{Addr: netip.MustParseAddr(office), User: "app", Chain: pair.Chain, Now: time.Now()})
		if refused == nil {
			t.Fatalf("%s is let in", subjectOf(pair))
		}
		want := refusal.Response{SQLState: "28000",
			Message: `certificate authentication failed for user "app"`,
			Detail:  `Client certificate "CN=app" (serial ` + serialOf(pair) + `) is not for this database.`,
			Hint:    "Use a client certificate that was issued for this database."}
		if got := refused.Response(""); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

// The entry that let a session in may go while the session lives.
func TestLiveSessionEndsWithTheEntryForAnyUser(t *testing.T) {
	p := newPKI(t)
	template := testpki.Client("app")
	template.URIs = []string{"urn:pgmtls:database:1"}
	pair := p.space.MustIssue(t, template)
	q := Request{Addr: netip.MustParseAddr(office), Chain: pair.Chain, User: "app", Now: time.Now()}
	first := p.build(t, required+threeRules+"identities: [{uri: 'urn:pgmtls:database:1', any_user: true}]\n")
	had, refused := first.Authorize(q)
	if refused != nil {
		t.Fatal(refused)
	}
	for _, row := range []struct{ entry, want string }{
		{"{uri: 'urn:pgmtls:database:1', any_user: true}", "rule office"},
		{"{uri: 'urn:pgmtls:database:1', users: [app]}", "rule office"},
		{"{uri: 'urn:pgmtls:database:1', users: [other]}", "user_not_allowed"},
		{"{uri: 'urn:pgmtls:database:2', any_user: true}", "user_not_allowed"},
	} {
		next := p.rebuild(t, required+threeRules+"identities: ["+row.entry+"]\n", first)
		if got := answerOf(next.Reauthorizer(q.Now).Authorize(q, had)); got != row.want {
			t.Errorf("under %s: %s, want %s", row.entry, got, row.want)
		}
	}
}

func TestRuleExpiresAtItsMoment(t *testing.T) {
	p := newPKI(t)
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	s := p.build(t, required+"ip_rules: [{id: guest, cidr: 198.51.100.0/24, expires_at: "+end.Format(time.RFC3339)+"}]\n")
	for _, row := range []struct {
		now  time.Time
		want string
	}{{end.Add(-time.Second), "rule guest"}, {end, "address_not_allowed"}, {end.Add(time.Second), "address_not_allowed"}} {
		got := answerOf(s.Authorize(Request{Addr: netip.MustParseAddr(guest), Chain: p.client.Chain, User: "app", Now: row.now}))
		if got != row.want {
			t.Errorf("%v from its end: %s, want %s", row.now.Sub(end), got, row.want)
		}
	}
}

func TestNoRulesIsNobody(t *testing.T) {
	p := newPKI(t)
	s := p.build(t, off)
	if got := answerOf(s.Authorize(Request{Addr: netip.MustParseAddr(office), User: "app", Now: time.Now()})); got != "address_not_allowed" {
		t.Errorf("without rules: %s", got)
	}
}

// A snapshot that somebody forgot to fill asks for everything and lets nobody in.
func TestEmptySnapshotLetsNobodyIn(t *testing.T) {
	p := newPKI(t)
	var empty Snapshot
	q := Request{Addr: netip.MustParseAddr(office), Chain: p.client.Chain, User: "app", Now: time.Now()}
	if _, refused := empty.Authorize(q); refused == nil {
		t.Error("the zero value lets somebody in")
	}
	withRules := Snapshot{Rules: p.build(t, off+threeRules).Rules}
	if _, refused := withRules.Authorize(q); refused == nil {
		t.Error("a snapshot without a CA lets somebody in")
	}
}

// A list that nobody renewed ends no session by itself, and excuses none either.
func TestStaleListHidesNeitherAnAddressNorAUserThatIsGone(t *testing.T) {
	p := newPKI(t)
	p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{NextUpdate: time.Now().Add(time.Hour)})
	withList := required + "client_crl: [list.pem]\n"
	now := time.Now()
	q := Request{Addr: netip.MustParseAddr(office), Chain: p.client.Chain, User: "app", Now: now}
	had, refused := p.build(t, withList+threeRules+"identities: [{subject_cn: app, users: [app]}]\n").Authorize(q)
	if refused != nil {
		t.Fatal(refused)
	}
	p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{Number: 2, NextUpdate: now.Add(2 * time.Hour)})
	later := now.Add(3 * time.Hour)
	for _, row := range []struct{ lines, want string }{
		{threeRules, "rule office"},
		{threeRules + "identities: [{subject_cn: app, users: [app]}]\n", "rule office"},
		{threeRules + "identities: [{subject_cn: app, users: [other]}]\n", "user_not_allowed"},
		{"", "address_not_allowed"},
		{threeRules + "revoked: ['" + serialOf(p.client) + "']\n", "certificate_revoked"},
	} {
		s := p.build(t, withList+row.lines)
		if _, refused := s.Authorize(Request{Addr: q.Addr, Chain: q.Chain, User: q.User, Now: later}); refused == nil {
			t.Error("a new session is let in by a list that is out of date")
		}
		if got := answerOf(s.Reauthorizer(later).Authorize(q, had)); got != row.want {
			t.Errorf("a live session under %s: %s, want %s", row.lines, got, row.want)
		}
	}
}

// BenchmarkGate is the verdict on one session: 60 rules, a certificate of the space CA, an identity.
func BenchmarkGate(b *testing.B) {
	p := newPKI(b)
	s := p.build(b, required+sixtyRules()+"identities: [{subject_cn: app, users: [app]}]\n")
	q := Request{Addr: netip.MustParseAddr("10.59.0.1"), Chain: p.client.Chain, User: "app", Database: "shop", Now: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		if _, refused := s.Authorize(q); refused != nil {
			b.Fatal(refused)
		}
	}
}
