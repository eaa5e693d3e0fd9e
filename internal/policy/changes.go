package policy

import (
	"slices"
	"time"

	"pgmtls-proxy/internal/allowlist"
	"pgmtls-proxy/internal/config"
)

// Changes is what one snapshot changed against the one before, in the words of the policy: rules as "id network" or
// "id network until moment", so that one with a new end is another; certificates and CAs as "subject, serial". Every list
// may be empty.
type Changes struct {
	RulesAdded, RulesRemoved               []string
	CertificatesAdded, CertificatesRemoved []string
	ClientCAsAdded, ClientCAsRemoved       []string
	TrustChanged                           bool // CAs, revocation lists or revoked serials
	ClientAuthChanged, IdentitiesChanged   bool
}

// Diff compares a snapshot with the one before, which may be nil.
func Diff(previous, next *Snapshot) Changes {
	if previous == nil {
		previous = &Snapshot{ClientAuth: next.ClientAuth, identities: next.identities}
	}
	c := Changes{
		TrustChanged:      previous.Trust != next.Trust,
		ClientAuthChanged: previous.ClientAuth != next.ClientAuth,
		IdentitiesChanged: !slices.EqualFunc(previous.identities, next.identities, sameIdentity),
	}
	c.RulesAdded, c.RulesRemoved = difference(rules(previous.Rules), rules(next.Rules))
	c.CertificatesAdded, c.CertificatesRemoved = difference(previous.certificateNames(), next.certificateNames())
	c.ClientCAsAdded, c.ClientCAsRemoved = difference(previous.authorityNames(), next.authorityNames())
	return c
}

func rules(set *allowlist.Set) []string {
	var names []string
	for _, r := range set.Rules() {
		name := r.ID + " " + r.Prefix.String()
		if !r.ExpiresAt.IsZero() {
			name += " until " + r.ExpiresAt.UTC().Format(time.RFC3339)
		}
		names = append(names, name)
	}
	return names
}

func (s *Snapshot) certificateNames() []string {
	var names []string
	for _, c := range s.Certificates {
		names = append(names, c.Leaf.Subject.String()+", "+c.Serial())
	}
	return names
}

func (s *Snapshot) authorityNames() []string {
	var names []string
	for _, ca := range s.Trust.CAs() {
		names = append(names, ca.Subject+", "+ca.Serial)
	}
	return names
}

// difference lists what only next has, and what only previous has.
func difference(previous, next []string) (added, removed []string) {
	for _, name := range next {
		if !slices.Contains(previous, name) {
			added = append(added, name)
		}
	}
	for _, name := range previous {
		if !slices.Contains(next, name) {
			removed = append(removed, name)
		}
	}
	return added, removed
}

// sameIdentity compares two entries without their places in the file.
func sameIdentity(a, b config.Identity) bool {
	return a.SubjectCN == b.SubjectCN && a.DNS == b.DNS && a.URI == b.URI &&
		(a.Serial == nil) == (b.Serial == nil) && (a.Serial == nil || *a.Serial == *b.Serial) &&
		a.AnyUser == b.AnyUser && slices.Equal(a.Users, b.Users)
}
