package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// results are the steps by their names.
func results(e Explanation) map[string]Step {
	steps := make(map[string]Step)
	for _, step := range e.Steps {
		steps[step.Name] = step
	}
	return steps
}

// The decision is the gate's, and the first refused step is the reason for it.
func TestExplanationAgreesWithTheGate(t *testing.T) {
	p := newPKI(t)
	other := p.space.MustIssue(t, testpki.Client("other"))
	stranger := testpki.MustCA(t, "Stranger CA").MustIssue(t, testpki.Client("app"))
	const mapped = "identities: [{subject_cn: app, users: [app, reports]}]\n"
	const anyUser = "identities: [{subject_cn: other, any_user: true}]\n"
	stepOf := map[refusal.Reason]string{
		refusal.AddressNotAllowed:    "address",
		refusal.NoClientCertificate:  "client_certificate",
		refusal.CertificateUnknownCA: "client_certificate",
		refusal.CertificateRevoked:   "client_certificate",
		refusal.UserNotAllowed:       "user",
	}
	seen := make(map[refusal.Reason]bool)
	for _, lines := range []string{required, optional, off, required + mapped, required + anyUser, required + "revoked: ['" + serialOf(p.client) + "']\n"} {
		s := p.build(t, lines+threeRules)
		for _, addr := range []string{office, vpn, guest, outside} {
			for _, certificate := range []*testpki.Pair{nil, p.client, other, stranger} {
				for _, user := range []string{"app", "reports", "postgres"} {
					q := Request{Addr: netip.MustParseAddr(addr), User: user, Database: "shop", Now: time.Now()}
					if certificate != nil {
						q.Chain = certificate.Chain
					}
					e := s.Explain(Question{Request: q})
					want, got := answerOf(s.Authorize(q)), answerOf(e.Grant, e.Refused)
					if got != want {
						t.Fatalf("%s as %s with %s: explained as %s, decided as %s", addr, user, subjectOf(certificate), got, want)
					}
					first := ""
					for _, step := range e.Steps {
						if step.Result == Refused {
							first = step.Name
							break
						}
					}
					expected := ""
					if e.Refused != nil {
						seen[e.Refused.Reason] = true
						expected = stepOf[e.Refused.Reason]
					}
					if first != expected {
						t.Errorf("%s as %s with %s: the first refused step is %q, and the decision %s", addr, user, subjectOf(certificate), first, got)
					}
				}
			}
		}
	}
	for reason := range stepOf {
		if !seen[reason] {
			t.Errorf("no case has met %v", reason)
		}
	}
}

func TestExplanationTellsEveryStep(t *testing.T) {
	p := newPKI(t)
	const overlapping = `ip_rules:
  - {id: office, cidr: 203.0.113.0/24}
  - {id: everybody, cidr: 0.0.0.0/0}
  - {id: vpn, cidr: "2001:db8:7::/48"}
  - {id: guest, cidr: 198.51.100.0/24, expires_at: 2020-01-01T00:00:00Z}
`
	for _, row := range []struct {
		what, lines string
		addr, sni   string
		chain       *testpki.Pair
		user        string
		step        string
		result      Result
		text        string   // part
		details     []string // part of each
	}{
		{what: "the closest rule counts", lines: required + overlapping, addr: office, step: "address", result: Passed,
			text: "Rule office (203.0.113.0/24) contains 203.0.113.7.", details: []string{"office 203.0.113.0/24 contains it, and is the most specific", "everybody 0.0.0.0/0 also contains it"}},
		{what: "an expired rule", lines: required + overlapping, addr: guest, step: "address", result: Passed,
			text: "Rule everybody", details: []string{"everybody", "guest 198.51.100.0/24 contains it, but expired on 2020-01-01 00:00:00 UTC"}},
		{what: "all rules", lines: required + threeRules, addr: outside, step: "address", result: Refused, text: "No unexpired rule contains 192.0.2.200; 3 considered.",
			details: []string{"office 203.0.113.0/24 is another network", "vpn 2001:db8:7::/48 is of the other IP version", "guest 198.51.100.0/24 is another network"}},
		{what: "no name", lines: required + threeRules, addr: office, step: "server_certificate", result: Passed,
			text: "Without a name (SNI) the client gets the default, the certificate of *.db.example.com db.example.com (serial " + serialOf(p.server)},
		{what: "a name that acts on terminals", lines: required + threeRules, addr: office, sni: "db\x1b[2J", step: "server_certificate", result: Passed, text: `For the name "db\x1b[2J" the client gets the default`},
		{what: "a good certificate", lines: required + threeRules, addr: office, chain: p.client, step: "client_certificate", result: Passed,
			text: "CN=app (serial " + serialOf(p.client) + ") is accepted", details: []string{"CN=app, issued by CN=Space CA, serial " + serialOf(p.client) + ", valid from "}},
		{what: "none", lines: required + threeRules, addr: office, step: "client_certificate", result: Refused, text: "The client sent no certificate."},
		{what: "none needed", lines: optional + threeRules, addr: office, step: "client_certificate", result: Passed, text: "The client presents none, and client_auth is optional."},
		{what: "none asked for", lines: off + threeRules, addr: office, step: "client_certificate", result: NotAsked, text: "client_auth is off"},
		{what: "a stranger's address does not hide a revoked certificate", lines: required + threeRules + "revoked: ['" + serialOf(p.client) + "']\n", addr: outside, chain: p.client,
			step: "client_certificate", result: Refused, text: "has been revoked", details: []string{"CN=app"}},
		{what: "no identities", lines: required + threeRules, addr: office, chain: p.client, user: "x", step: "user", result: NotAsked, text: "no identities"},
		{what: "a user of the certificate", lines: required + threeRules + "identities: [{subject_cn: app, users: [app, reports]}]\n", addr: office, chain: p.client, user: "app",
			step: "user", result: Passed, text: `Line 6 gives the user "app" to the certificate.`, details: []string{"gives the certificate the users app, reports"}},
		{what: "any user of the certificate", lines: required + threeRules + "identities:\n- {subject_cn: app, users: [reports]}\n- {uri: 'urn:x:1', any_user: true}\n- {serial: '" + serialOf(p.client) + "', any_user: true}\n",
			addr: office, chain: p.client, user: "app", step: "user", result: Passed, text: `Line 9 gives the user "app" to the certificate.`,
			details: []string{"line 7 gives the certificate the users reports", "line 9 gives the certificate every user"}},
		{what: "any user of another certificate", lines: required + threeRules + "identities: [{uri: 'urn:x:1', any_user: true}]\n", addr: office, chain: p.client, user: "app",
			step: "user", result: Refused, text: `No entry of identities gives the user "app"`},
		{what: "a user of nobody's", lines: required + threeRules + "identities: [{subject_cn: other, users: [app]}]\n", addr: office, chain: p.client, user: "a\nb",
			step: "user", result: Refused, text: `No entry of identities gives the user "a\nb"`},
		{what: "no user", lines: required + threeRules + "identities: [{subject_cn: other, users: [app]}]\n", addr: office, chain: p.client, step: "user", result: NotAsked, text: "No user is given"},
		{what: "no certificate to map", lines: required + threeRules + "identities: [{subject_cn: other, users: [app]}]\n", addr: office, user: "app", step: "user", result: NotAsked, text: "with an accepted certificate"},
	} {
		t.Run(row.what, func(t *testing.T) {
			q := Question{Request: Request{Addr: netip.MustParseAddr(row.addr), User: row.user, Now: time.Now()}, ServerName: row.sni}
			if row.chain != nil {
				q.Chain = row.chain.Chain
			}
			e := p.build(t, row.lines).Explain(q)
			step := results(e)[row.step]
			if step.Result != row.result || !strings.Contains(step.Text, row.text) || len(step.Details) != len(row.details) {
				t.Fatalf("%+v\nwant %s with %q and %q", step, row.result, row.text, row.details)
			}
			for i, want := range row.details {
				if !strings.Contains(step.Details[i], want) {
					t.Errorf("detail %q, want %q", step.Details[i], want)
				}
			}
		})
	}
}

// Without a user the question is about address and certificate, and identities do not refuse it.
func TestQuestionWithoutAUserLeavesIdentitiesOut(t *testing.T) {
	p := newPKI(t)
	s := p.build(t, required+threeRules+"identities: [{subject_cn: other, users: [app]}]\n")
	e := s.Explain(Question{Request: Request{Addr: netip.MustParseAddr(office), Chain: p.client.Chain, Now: time.Now()}})
	if e.Refused != nil || e.Grant.Rule.ID != "office" {
		t.Errorf("%v, %v", e.Grant, e.Refused)
	}
}

func TestNameChoosesTheServerCertificate(t *testing.T) {
	p := newPKI(t)
	rsa := testpki.Server("db.example.com")
	rsa.Key = testpki.RSA2048
	second := p.space.MustIssue(t, rsa)
	third := p.space.MustIssue(t, testpki.Server("other.test"))
	p.contents["rsa.crt"], p.contents["rsa.key"] = second.CertPEM, second.KeyPEM
	p.contents["other.crt"], p.contents["other.key"] = third.CertPEM, third.KeyPEM
	files := p.files(t, required+threeRules)
	more := files.Policy.Certificates[0]
	more.Default = false
	for _, name := range []string{"rsa", "other"} {
		more.Cert.Path, more.Key.Path = name+".crt", name+".key"
		files.Policy.Certificates = append(files.Policy.Certificates, more)
	}
	s, err := Builder{Backend: &backend.Target{}}.Build(files, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	step := results(s.Explain(Question{Request: Request{Now: time.Now()}, ServerName: "OTHER.test"}))["server_certificate"]
	if !strings.Contains(step.Text, "gets the certificate of other.test") || len(step.Details) != 0 {
		t.Errorf("for another name: %+v", step)
	}
	step = results(s.Explain(Question{Request: Request{Now: time.Now()}, ServerName: "db.example.com"}))["server_certificate"]
	if !strings.Contains(step.Text, serialOf(p.server)) || len(step.Details) != 1 || !strings.Contains(step.Details[0], serialOf(second)) {
		t.Errorf("with two algorithms: %+v", step)
	}
}

func TestWithoutAPolicyEverybodyIsRefused(t *testing.T) {
	e := (*Snapshot)(nil).Explain(Question{Request: Request{Addr: netip.MustParseAddr(office)}})
	if e.Refused == nil || e.Refused.Reason != refusal.NoPolicy || results(e)["policy"].Result != Refused {
		t.Errorf("%+v", e)
	}
}

func TestDaysLeftAreWhole(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for end, want := range map[time.Time]int{
		now.Add(47 * time.Hour): 1, now.Add(time.Minute): 0, now: 0, now.Add(-time.Minute): -1, now.Add(-25 * time.Hour): -2,
	} {
		if got := DaysLeft(end, now); got != want {
			t.Errorf("at %v: %d days, want %d", end, got, want)
		}
	}
}
