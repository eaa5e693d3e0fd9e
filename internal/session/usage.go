package session

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/policy"
)

// Bounds of what is remembered. What was not seen for the longest time is forgotten first, live sessions never.
const (
	maxKnownCertificates = 4096
	maxKnownRules        = 1024 // those of the policy, 60 at most, and such as may come back
)

// Usage is how much something was used by sessions that were admitted, since the process began or since it was
// forgotten.
type Usage struct {
	FirstSeen, LastSeen time.Time // zero: never. LastSeen is when a session began or ended, and now if one is live
	Sessions            int       // live
}

// CertificateUsage is the usage of a client certificate.
type CertificateUsage struct {
	Usage
	ClientCertificate
}

// ClientCertificate is what is kept of one. All text is fit to be shown.
type ClientCertificate struct {
	Subject, Issuer, Serial string
	NotAfter                time.Time
}

// Usages is who uses what.
type Usages struct {
	Certificates []CertificateUsage // the last seen first
	rules        map[ruleKey]Usage
}

// Rule is the usage of an IP rule. One that keeps its id and changes its network is another rule.
func (u *Usages) Rule(id string, prefix netip.Prefix) Usage { return u.rules[ruleKey{id, prefix}] }

type ruleKey struct {
	id     string
	prefix netip.Prefix
}

type certificateKey = [sha256.Size]byte

// seen is the table's memory. Its owner locks.
type seen struct {
	certificates *recent[certificateKey, ClientCertificate]
	rules        *recent[ruleKey, struct{}]
}

func newSeen() seen {
	return seen{
		certificates: newRecent[certificateKey, ClientCertificate](maxKnownCertificates),
		rules:        newRecent[ruleKey, struct{}](maxKnownRules),
	}
}

// touch notes that a session with the grant begins or ends.
func (s *seen) touch(grant policy.Grant, now time.Time) {
	if grant.Rule != nil {
		s.rules.touch(ruleKey{grant.Rule.ID, grant.Rule.Prefix}, now)
	}
	if id := grant.Identity; id != nil {
		known, first := s.certificates.touch(id.Fingerprint, now)
		if first {
			// Cloned: these may be parts of a certificate of 256 kB.
			known.value = ClientCertificate{strings.Clone(id.Subject), strings.Clone(id.Issuer), strings.Clone(id.Serial), id.NotAfter}
		}
	}
}

// Usage returns who uses what. Sessions that are live are counted now, so that a sweep that gives a session another rule
// needs no books.
func (t *Table) Usage(now time.Time) Usages {
	u := Usages{rules: make(map[ruleKey]Usage)}
	certificates := make(map[certificateKey]CertificateUsage)
	live := t.list()
	t.mu.Lock()
	for e := range t.seen.certificates.all {
		certificates[e.key] = CertificateUsage{Usage{FirstSeen: e.first, LastSeen: e.last}, e.value}
	}
	for e := range t.seen.rules.all {
		u.rules[e.key] = Usage{FirstSeen: e.first, LastSeen: e.last}
	}
	t.mu.Unlock()
	for _, c := range live {
		grant := c.granted()
		if rule := grant.Rule; rule != nil {
			key := ruleKey{rule.ID, rule.Prefix}
			u.rules[key] = u.rules[key].with(c.accepted, now)
		}
		if id := grant.Identity; id != nil {
			use := certificates[id.Fingerprint]
			use.ClientCertificate = ClientCertificate{id.Subject, id.Issuer, id.Serial, id.NotAfter}
			use.Usage = use.with(c.accepted, now)
			certificates[id.Fingerprint] = use
		}
	}
	for _, use := range certificates {
		u.Certificates = append(u.Certificates, use)
	}
	slices.SortFunc(u.Certificates, func(a, b CertificateUsage) int {
		if order := b.LastSeen.Compare(a.LastSeen); order != 0 {
			return order
		}
		return strings.Compare(a.Serial, b.Serial)
	})
	return u
}

// with counts a live session.
func (u Usage) with(accepted, now time.Time) Usage {
	u.Sessions++
	u.LastSeen = now
	if u.FirstSeen.IsZero() {
		u.FirstSeen = accepted
	}
	return u
}
