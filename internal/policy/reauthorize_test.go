package policy

import (
	"fmt"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/testkit/testpki"
)

// rebuild builds the policy that replaces another.
func (p *pkiFiles) rebuild(t testing.TB, lines string, previous *Snapshot) *Snapshot {
	t.Helper()
	s, err := Builder{Backend: &backend.Target{}}.Build(p.files(t, lines), previous, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// atOffice is what the usual client asks with.
func (p *pkiFiles) atOffice(now time.Time) Request {
	return Request{Addr: netip.MustParseAddr(office), Chain: p.client.Chain, User: "app", Now: now}
}

// granted is what lets the request in.
func granted(t testing.TB, s *Snapshot, q Request) Grant {
	t.Helper()
	grant, refused := s.Authorize(q)
	if refused != nil {
		t.Fatal(refused)
	}
	return grant
}

// Every kind of change, and a session that had been let in.
func TestReviewRefusesWhatTheGateWould(t *testing.T) {
	p := newPKI(t)
	stranger := testpki.MustCA(t, "Stranger CA")
	p.contents["stranger.pem"] = stranger.PEM()
	p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{Revoked: []*big.Int{p.client.Cert.SerialNumber}})
	now := time.Now()
	for _, before := range []string{required, optional, off} {
		q := p.atOffice(now)
		had := granted(t, p.build(t, before+threeRules), q)
		for _, row := range []struct{ lines, want string }{
			{required + threeRules, "rule office"},
			{optional + threeRules, "rule office"},
			{off + threeRules, "rule office"},
			{required, "address_not_allowed"},
			{required + "ip_rules: [{id: wide, cidr: 203.0.0.0/8}]\n", "rule wide"},
			{required + "ip_rules: [{id: office, cidr: 203.0.113.0/24, expires_at: 2020-01-01T00:00:00Z}]\n", "address_not_allowed"},
			{"client_auth: required\nclient_ca: [stranger.pem]\n" + threeRules, "certificate_unknown_ca"},
			{"client_auth: required\nclient_ca: [ca.pem, stranger.pem]\n" + threeRules, "rule office"},
			{required + "client_crl: [list.pem]\n" + threeRules, "certificate_revoked"},
			{required + "revoked: ['" + serialOf(p.client) + "']\n" + threeRules, "certificate_revoked"},
			{required + "identities: [{subject_cn: app, users: [app]}]\n" + threeRules, "rule office"},
			{required + "identities: [{subject_cn: app, users: [other]}]\n" + threeRules, "user_not_allowed"},
			{required + "on_removal: keep\n", "rule office"},
		} {
			s := p.build(t, row.lines)
			if got := answerOf(s.Reauthorizer(now).Authorize(q, had)); got != row.want {
				t.Errorf("let in by %q, under %q: %s, want %s", before, row.lines, got, row.want)
			}
			if got := answerOf(s.Authorize(q)); got != row.want && s.OnRemoval != "keep" {
				t.Errorf("under %q the gate says %s", row.lines, got)
			}
		}
	}
	// Who showed no certificate.
	q := p.atOffice(now)
	q.Chain = nil
	had := granted(t, p.build(t, optional+threeRules), q)
	if got := answerOf(p.build(t, required+threeRules).Reauthorizer(now).Authorize(q, had)); got != "no_client_certificate" {
		t.Errorf("without a certificate under client_auth required: %s", got)
	}
}

// The moments at which time alone ends a session, and those just before.
func TestGrantKnowsItsLastMoment(t *testing.T) {
	p := newPKI(t)
	end := p.client.Cert.NotAfter
	rule := func(expires time.Time) string {
		return "ip_rules: [{id: office, cidr: 203.0.113.0/24, expires_at: " + expires.UTC().Format(time.RFC3339Nano) + "}]\n"
	}
	for name, row := range map[string]struct {
		lines string
		until time.Time
		want  string
	}{
		"the certificate":                     {required + threeRules, end.Add(1), "certificate_expired"},
		"the rule":                            {required + rule(end.Add(-time.Hour)), end.Add(-time.Hour), "address_not_allowed"},
		"the rule, a moment after the other":  {required + rule(end.Add(time.Second)), end.Add(1), "certificate_expired"},
		"the rule, a moment before the other": {required + rule(end.Add(-time.Second)), end.Add(-time.Second), "address_not_allowed"},
		"the rule and the certificate":        {required + rule(end), end, "address_not_allowed"},
		"the rule, where nobody is asked":     {off + rule(end.Add(time.Hour)), end.Add(time.Hour), "address_not_allowed"},
		"none":                                {off + threeRules, time.Time{}, ""},
	} {
		s := p.build(t, row.lines)
		q := p.atOffice(time.Now())
		had := granted(t, s, q)
		if !had.Until().Equal(row.until) {
			t.Errorf("%s: until %v, want %v", name, had.Until(), row.until)
		}
		if row.until.IsZero() {
			continue
		}
		if got := answerOf(s.Reauthorizer(row.until.Add(-1)).Authorize(q, had)); got != "rule office" {
			t.Errorf("%s: the moment before, %s", name, got)
		}
		if got := answerOf(s.Reauthorizer(row.until).Authorize(q, had)); got != row.want {
			t.Errorf("%s: at the moment, %s, want %s", name, got, row.want)
		}
	}
}

// A rule that runs out does not end a session that a wider one allows too.
func TestReviewFallsBackToTheNextRule(t *testing.T) {
	p := newPKI(t)
	end := time.Now().Add(time.Hour)
	s := p.build(t, off+"ip_rules: [{id: guest, cidr: 203.0.113.7/32, expires_at: "+end.UTC().Format(time.RFC3339Nano)+"}, {id: office, cidr: 203.0.113.0/24}]\n")
	q := p.atOffice(time.Now())
	had := granted(t, s, q)
	if had.Rule.ID != "guest" || !had.Until().Equal(end) {
		t.Fatalf("let in by %s until %v", had.Rule.ID, had.Until())
	}
	next, refused := s.Reauthorizer(end).Authorize(q, had)
	if answerOf(next, refused) != "rule office" || !next.Until().IsZero() {
		t.Errorf("at the end of its rule: %s until %v", answerOf(next, refused), next.Until())
	}
}

// A control plane whose clock is ahead signs lists that begin later. What they revoke ends when they arrive, and
// whom they do not revoke they leave alone.
func TestListOfTheFutureCountsWhenItArrives(t *testing.T) {
	p := newPKI(t)
	now := time.Now()
	for _, ahead := range []time.Duration{10 * time.Minute, 61 * 24 * time.Hour} {
		signed := func(revoked ...*big.Int) {
			p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{ThisUpdate: now.Add(ahead), NextUpdate: now.Add(ahead + time.Hour), Revoked: revoked})
		}
		signed()
		s := p.build(t, required+"client_crl: [list.pem]\n"+threeRules)
		had := granted(t, s, p.atOffice(now))
		signed(p.client.Cert.SerialNumber)
		next := p.rebuild(t, required+"client_crl: [list.pem]\n"+threeRules, s)
		if got := answerOf(next.Reauthorizer(now).Authorize(p.atOffice(now), had)); got != "certificate_revoked" {
			t.Errorf("%v ahead, of a session: %s", ahead, got)
		}
		if got := answerOf(next.Authorize(p.atOffice(now))); got != "certificate_revoked" {
			t.Errorf("%v ahead, of a newcomer: %s", ahead, got)
		}
	}
}

// While the trust is the same, the verdict that let a session in is its verdict. The proof is a chain that is
// of no known CA: it is not looked at.
func TestVerdictIsNotGivenAgainWhileTrustIsTheSame(t *testing.T) {
	p := newPKI(t)
	now := time.Now()
	first := p.build(t, required+threeRules)
	had := granted(t, first, p.atOffice(now))
	unread := p.atOffice(now)
	unread.Chain = testpki.MustCA(t, "Stranger CA").MustIssue(t, testpki.Client("app")).Chain
	same := p.rebuild(t, required+"ip_rules: [{id: new, cidr: 203.0.113.0/28}]\nidentities: [{subject_cn: app, users: [app]}]\n", first)
	next, refused := same.Reauthorizer(now).Authorize(unread, had)
	if answerOf(next, refused) != "rule new" || next.Identity != had.Identity {
		t.Errorf("with the same trust: %s", answerOf(next, refused))
	}
	// From one way to ask to the other the trust stays, too.
	if got := answerOf(p.rebuild(t, optional+threeRules, same).Reauthorizer(now).Authorize(unread, next)); got != "rule office" {
		t.Errorf("with client_auth optional: %s", got)
	}
	changed := p.rebuild(t, required+"revoked: ['01']\n"+threeRules, same)
	if got := answerOf(changed.Reauthorizer(now).Authorize(unread, next)); got != "certificate_unknown_ca" {
		t.Errorf("with another trust: %s", got)
	}
}

// BenchmarkReview is one sweep's decisions on 5,000 sessions under 60 rules.
func BenchmarkReview(b *testing.B) {
	p := newPKI(b)
	now := time.Now()
	for name, after := range map[string]string{"SameTrust": required, "OneRevoked": required + "revoked: ['01']\n"} {
		for _, certificates := range []int{1, 5000} {
			b.Run(fmt.Sprintf("%s/%dCertificates", name, certificates), func(b *testing.B) {
				before := p.build(b, required+sixtyRules())
				requests := make([]Request, 5000)
				grants := make([]Grant, len(requests))
				for i := range requests {
					pair := p.client
					if i > 0 && i < certificates {
						pair = p.space.MustIssue(b, testpki.Client(fmt.Sprint("client ", i)))
					}
					requests[i] = Request{Addr: netip.AddrFrom4([4]byte{10, byte(i % 60), byte(i >> 8), byte(i)}), Chain: pair.Chain, User: "app", Now: now}
					grants[i] = granted(b, before, requests[i])
				}
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					s := p.rebuild(b, after+sixtyRules(), before)
					b.StartTimer()
					review := s.Reauthorizer(now)
					for i := range requests {
						if _, refused := review.Authorize(requests[i], grants[i]); refused != nil {
							b.Fatal(refused)
						}
					}
				}
			})
		}
	}
}
