package policy

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pgmtls-proxy/internal/allowlist"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/tlsconf"
)

// Request is what a client asks with.
type Request struct {
	Addr     netip.Addr          // the client's, unmapped
	Chain    []*x509.Certificate // as it was presented, leaf first; its key is proven by the handshake, nothing else is
	User     string              // of the startup packet; empty for a cancel
	Database string
	Now      time.Time
}

// Grant is a yes: on which grounds a session was let in. When they go, so may the session.
type Grant struct {
	Generation string // of the snapshot that said yes
	Rule       *allowlist.Rule
	Identity   *tlsconf.Identity // nil when no certificate was presented and none is required

	trust *tlsconf.ClientVerifier // that gave Identity
}

// Until is the first moment at which the grounds may be gone by time alone; zero if there is none.
func (g Grant) Until() time.Time {
	var until time.Time
	sooner := func(end time.Time) {
		if !end.IsZero() && (until.IsZero() || end.Before(until)) {
			until = end
		}
	}
	if g.Rule != nil {
		sooner(g.Rule.ExpiresAt)
	}
	if g.Identity != nil {
		sooner(g.Identity.Until.Add(1)) // behind the last moment
	}
	return until
}

// Authorize decides whether a session may begin, and whether one that lives may go on. Nothing else decides that.
func (s *Snapshot) Authorize(q Request) (Grant, *refusal.Refusal) {
	return s.decide(q, s.Trust.Verify)
}

// judge returns the verdict on a client certificate.
type judge func(chain []*x509.Certificate, now time.Time) (*tlsconf.Identity, *refusal.Refusal)

func (s *Snapshot) decide(q Request, judge judge) (Grant, *refusal.Refusal) {
	grant, refused := s.authenticate(q, judge)
	if refused == nil {
		refused = s.mapUser(grant.Identity, q.User)
	}
	if refused != nil {
		return Grant{}, refused
	}
	return grant, nil
}

// AuthorizeCancel decides whether a CancelRequest that came in TLS may go on. It names no user, so identities
// are not asked: the key that it carries belongs to one session.
func (s *Snapshot) AuthorizeCancel(q Request) (Grant, *refusal.Refusal) {
	return s.authenticate(q, s.Trust.Verify)
}

// Admits reports whether the address is allowed, before there is more to ask with. A yes is no more than
// worth a handshake: [Snapshot.Authorize] asks again.
func (s *Snapshot) Admits(addr netip.Addr, now time.Time) bool {
	_, allowed := s.Rules.Match(addr, now)
	return allowed
}

// RefuseAddress is the answer to an address that no rule allows.
func RefuseAddress(q Request) *refusal.Refusal {
	family, bits := "IPv4", 32
	if q.Addr.Is6() {
		family, bits = "IPv6", 128
	}
	addr := q.Addr.WithZone("")
	return &refusal.Refusal{
		Reason:  refusal.AddressNotAllowed,
		Message: fmt.Sprintf("no allowlist entry for host \"%s\", user \"%s\", database \"%s\"", addr, name(q.User), name(q.Database)),
		Hint:    fmt.Sprintf("The connection comes from the %s address %s. Add %s/%d to the database's IP rules.", family, addr, addr, bits),
	}
}

func (s *Snapshot) authenticate(q Request, judge judge) (Grant, *refusal.Refusal) {
	rule, allowed := s.Rules.Match(q.Addr, q.Now)
	if !allowed {
		return Grant{}, RefuseAddress(q)
	}
	identity, refused := s.identify(q, judge)
	if refused != nil {
		return Grant{}, refused
	}
	return Grant{Generation: s.Generation, Rule: rule, Identity: identity, trust: s.Trust}, nil
}

// identify judges the client's certificate.
func (s *Snapshot) identify(q Request, judge judge) (*tlsconf.Identity, *refusal.Refusal) {
	switch s.ClientAuth {
	case config.ClientAuthOff:
		return nil, nil
	case config.ClientAuthOptional:
		if len(q.Chain) == 0 {
			return nil, nil
		}
	}
	return judge(q.Chain, q.Now)
}

// mapUser refuses a user whom no identities entry gives to the certificate. Without entries every certificate
// of the CA is for every user.
func (s *Snapshot) mapUser(identity *tlsconf.Identity, user string) *refusal.Refusal {
	if len(s.identities) == 0 || s.identityFor(identity, user) != nil {
		return nil
	}
	refused := &refusal.Refusal{
		Reason:  refusal.UserNotAllowed,
		Message: fmt.Sprintf("certificate authentication failed for user \"%s\"", name(user)),
	}
	if identity == nil {
		return refused
	}
	if slices.ContainsFunc(s.identities, func(entry config.Identity) bool { return matches(&entry, identity) }) {
		refused.Detail = fmt.Sprintf("Client certificate \"%s\" (serial %s) is not for this user.", identity.Subject, identity.Serial)
	} else {
		refused.Detail = fmt.Sprintf("Client certificate \"%s\" (serial %s) is not for this database.", identity.Subject, identity.Serial)
		refused.Hint = "Use a client certificate that was issued for this database."
	}
	return refused
}

// identityFor is the first identities entry that gives the user to the certificate, or nil.
func (s *Snapshot) identityFor(identity *tlsconf.Identity, user string) *config.Identity {
	if identity == nil {
		return nil
	}
	for i := range s.identities {
		if entry := &s.identities[i]; matches(entry, identity) && allowsUser(entry, user) {
			return entry
		}
	}
	return nil
}

// allowsUser reports whether an entry has the user. No name at all is no user, not any.
func allowsUser(entry *config.Identity, user string) bool {
	return user != "" && (entry.AnyUser || slices.Contains(entry.Users, user))
}

// matches reports whether an entry is about the certificate.
func matches(entry *config.Identity, identity *tlsconf.Identity) bool {
	switch {
	case entry.SubjectCN != "":
		return entry.SubjectCN == identity.CommonName
	case entry.DNS != "":
		return identity.HasDNS(entry.DNS)
	case entry.URI != "":
		return identity.HasURI(entry.URI)
	case entry.Serial != nil:
		return entry.Serial.String() == identity.Serial
	}
	return false
}

// maxName bounds what a refusal repeats of a user's or database's name, in bytes.
const maxName = 128

func name(text string) string { return safetext.Escape(text, maxName) }
