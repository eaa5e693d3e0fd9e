package policy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/tlsconf"
)

// Question is what an operator asks: would this be let in, and why. Without a user the identities are left out.
type Question struct {
	Request
	ServerName string // the name that the client asks for in its ClientHello; empty: none
}

// ParseChain reads what a client would present, in PEM, leaf first.
func ParseChain(text []byte) ([]*x509.Certificate, error) { return tlsconf.ParseCertificates(text) }

// Serial rewrites a serial number in hexadecimal, with or without colons, as certificates' are shown.
func Serial(text string) (string, bool) {
	number, ok := new(big.Int).SetString(strings.NewReplacer(":", "", " ", "").Replace(text), 16)
	if !ok || number.Sign() <= 0 {
		return "", false
	}
	return tlsconf.FormatSerial(number), true
}

// Explanation is a decision with every step to it.
type Explanation struct {
	Grant   Grant            // on which grounds; zero when it is a no
	Refused *refusal.Refusal // nil is a yes
	Steps   []Step           // in the order in which a connection meets them
}

// Step is one question on the way. All are answered, also those behind the first no: who repairs that one wants to
// know what comes next. Text and Details are fit to be shown.
type Step struct {
	Name    string
	Result  Result
	Text    string
	Details []string
}

// Result is how a step ended.
type Result string

const (
	Passed   Result = "passed"
	Refused  Result = "refused"
	NotAsked Result = "not_asked" // the policy does not ask for it, or the question does not say it
)

// Explain decides as [Snapshot.Authorize] does, by the same functions and the same verdict, and tells how. A nil
// snapshot refuses everybody.
func (s *Snapshot) Explain(q Question) Explanation {
	if s == nil {
		return Explanation{
			Refused: &refusal.Refusal{Reason: refusal.NoPolicy},
			Steps:   []Step{{Name: "policy", Result: Refused, Text: "No policy is in force: every client is refused."}},
		}
	}
	var e Explanation
	if q.User == "" {
		e.Grant, e.Refused = s.authenticate(q.Request, s.Trust.Verify)
	} else {
		e.Grant, e.Refused = s.decide(q.Request, s.Trust.Verify)
	}
	identity, bad := s.identify(q.Request, s.Trust.Verify)
	e.Steps = []Step{
		s.explainServerCertificate(q.ServerName, q.Now),
		s.explainAddress(q.Request),
		s.explainClientCertificate(q.Request, identity, bad),
		s.explainUser(q.Request, identity, bad),
	}
	return e
}

func (s *Snapshot) explainAddress(q Request) Step {
	step := Step{Name: "address", Result: Refused}
	match, allowed := s.Rules.Match(q.Addr, q.Now)
	addr := q.Addr.Unmap().WithZone("")
	rules := s.Rules.Rules()
	for _, r := range rules {
		verdict := ""
		switch {
		case r.Prefix.Addr().Is4() != addr.Is4():
			verdict = "is of the other IP version"
		case !r.Prefix.Contains(addr):
			verdict = "is another network"
		case r.Expired(q.Now):
			verdict = "contains it, but expired on " + date(r.ExpiresAt)
		case allowed && r.ID == match.ID:
			verdict = "contains it, and is the most specific"
		default:
			verdict = "also contains it"
		}
		if !allowed || r.Prefix.Contains(addr) {
			step.Details = append(step.Details, fmt.Sprintf("%s %s %s", shown(r.ID), r.Prefix, verdict))
		}
	}
	if !allowed {
		step.Text = fmt.Sprintf("No unexpired rule contains %s; %d considered.", addr, len(rules))
		return step
	}
	step.Result = Passed
	step.Text = fmt.Sprintf("Rule %s (%s) contains %s.", shown(match.ID), match.Prefix, addr)
	return step
}

// Clients of both kinds of algorithms, and one that knows RSA alone. The default certificate of a name may differ.
func clientHello(name string, schemes ...tls.SignatureScheme) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        name,
		CipherSuites:      []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
		SupportedPoints:   []uint8{0},
		SignatureSchemes:  schemes,
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
	}
}

func (s *Snapshot) explainServerCertificate(name string, now time.Time) Step {
	step := Step{Name: "server_certificate", Result: Passed}
	rsa := []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}
	both := append([]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512}, rsa...)
	served := s.served(clientHello(name, both...))
	if served == nil {
		step.Result, step.Text = NotAsked, "There is no server certificate."
		return step
	}
	asked := "Without a name (SNI)"
	if name != "" {
		asked = fmt.Sprintf("For the name \"%s\"", shown(name))
	}
	standard := ""
	if served.Leaf.Equal(s.Certificates[s.Default].Leaf) {
		standard = "the default, "
	}
	step.Text = fmt.Sprintf("%s the client gets %s%s.", asked, standard, describeServer(served, now))
	if other := s.served(clientHello(name, rsa...)); other != nil && other != served {
		step.Details = append(step.Details, "a client that can't verify ECDSA gets "+describeServer(other, now))
	}
	return step
}

// served is what a handshake would serve. It asks the function that handshakes ask.
func (s *Snapshot) served(hello *tls.ClientHelloInfo) *tlsconf.Certificate {
	chosen, err := s.TLS.GetCertificate(hello)
	if err != nil {
		return nil
	}
	for _, c := range s.Certificates {
		if c.Leaf.Equal(chosen.Leaf) {
			return c
		}
	}
	return nil
}

func describeServer(c *tlsconf.Certificate, now time.Time) string {
	return fmt.Sprintf("the certificate of %s (serial %s, %s)", shown(strings.Join(c.Names(), " ")), c.Serial(), validity(c.NotAfter(), now))
}

func (s *Snapshot) explainClientCertificate(q Request, identity *tlsconf.Identity, bad *refusal.Refusal) Step {
	step := Step{Name: "client_certificate", Result: Passed}
	for i, cert := range q.Chain {
		if i == maxShownChain {
			step.Details = append(step.Details, fmt.Sprintf("and %d more", len(q.Chain)-i))
			break
		}
		step.Details = append(step.Details, fmt.Sprintf("%s, issued by %s, serial %s, valid from %s, %s", shown(cert.Subject.String()),
			shown(cert.Issuer.String()), tlsconf.FormatSerial(cert.SerialNumber), date(cert.NotBefore), validity(cert.NotAfter, q.Now)))
	}
	switch {
	case bad != nil:
		step.Result, step.Text = Refused, shownText(bad.Detail)
	case s.ClientAuth == config.ClientAuthOff:
		step.Result, step.Text = NotAsked, "client_auth is off: clients are not asked for a certificate."
	case identity == nil:
		step.Text = "The client presents none, and client_auth is optional."
	default:
		step.Text = fmt.Sprintf("%s (serial %s) is accepted: its CA is trusted, and it is for TLS clients, valid and not revoked.", identity.Subject, identity.Serial)
	}
	return step
}

func (s *Snapshot) explainUser(q Request, identity *tlsconf.Identity, bad *refusal.Refusal) Step {
	step := Step{Name: "user", Result: NotAsked}
	switch {
	case len(s.identities) == 0:
		step.Text = "The policy has no identities: an accepted certificate is for every user."
		return step
	case bad != nil:
		step.Text = "Identities are evaluated only with an accepted certificate."
		return step
	}
	for i := range s.identities {
		entry := &s.identities[i]
		if identity == nil || !matches(entry, identity) || len(step.Details) == maxShownIdentities {
			continue
		}
		given := "every user"
		if !entry.AnyUser {
			given = "the users " + shownText(strings.Join(entry.Users, ", "))
		}
		step.Details = append(step.Details, fmt.Sprintf("line %d gives the certificate %s", entry.Position.Line, given))
	}
	if q.User == "" {
		step.Text = "No user is given, so identities are not evaluated."
		return step
	}
	giver := s.identityFor(identity, q.User)
	if giver == nil {
		step.Result, step.Text = Refused, fmt.Sprintf("No entry of identities gives the user \"%s\" to the certificate.", shown(q.User))
		return step
	}
	step.Result, step.Text = Passed, fmt.Sprintf("Line %d gives the user \"%s\" to the certificate.", giver.Position.Line, shown(q.User))
	return step
}

// Bounds of what an explanation shows.
const (
	maxShownChain      = 10
	maxShownIdentities = 20
	maxShownText       = 1024 // bytes
)

func shown(text string) string { return safetext.Escape(text, maxName) }

func shownText(text string) string { return safetext.Escape(text, maxShownText) }

func date(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// validity returns until when a certificate is valid, and how many days that is.
func validity(end, now time.Time) string {
	if now.After(end) {
		return "EXPIRED on " + date(end)
	}
	return fmt.Sprintf("valid until %s, %d days", date(end), DaysLeft(end, now))
}

// DaysLeft is how many whole days there are to a moment; below zero behind it.
func DaysLeft(end, now time.Time) int {
	days := end.Sub(now) / (24 * time.Hour)
	if end.Before(now) {
		days--
	}
	return int(days)
}
