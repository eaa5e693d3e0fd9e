// Package allowlist answers one question: may this address connect, and which rule says so.
//
// A [Set] is immutable: the policy builds a new one for every change and swaps it in whole, so a connection asks
// one consistent list without a lock. The package doesn't parse text, doesn't count rules and doesn't know why an
// address is the one to ask about (the socket's, or the one that a PROXY header announced): config and listener
// do. The search is a radix tree, github.com/yl2chen/cidranger.
//
// IPv4 and IPv6 are two worlds: 0.0.0.0/0 covers no IPv6 address, ::/0 covers no IPv4 address, and an IPv4
// address that a dual-stack socket shows as ::ffff:a.b.c.d is the IPv4 address a.b.c.d and nothing else.
package allowlist

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/yl2chen/cidranger"

	"pgmtls-proxy/internal/safetext"
)

// maxText bounds what an error repeats of a rule's id, in bytes.
const maxText = 64

// Rule allows the addresses of one prefix.
type Rule struct {
	ID          string
	Prefix      netip.Prefix // canonical: no host bits, no zone, no IPv4 in IPv6 clothes
	Description string
	ExpiresAt   time.Time // the first moment at which the rule no longer holds; zero: it never expires
}

// Expired reports whether the rule no longer holds.
func (r *Rule) Expired(now time.Time) bool {
	return !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt)
}

// Set is an immutable set of rules. Nil and the empty set allow nobody. It is safe for concurrent use.
type Set struct {
	rules []Rule
	tree  cidranger.Ranger
}

// entry is a rule in the tree.
type entry struct{ *Rule }

func (e entry) Network() net.IPNet {
	return net.IPNet{
		IP:   e.Prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(e.Prefix.Bits(), e.Prefix.Addr().BitLen()),
	}
}

// New builds a set, or gives every problem that the rules have, joined, each with the rule's id. Rules are copied.
func New(rules []Rule) (*Set, error) {
	s := &Set{rules: slices.Clone(rules), tree: cidranger.NewPCTrieRanger()}
	var problems []error
	seen := make(map[netip.Prefix]string, len(rules))
	for i := range s.rules {
		rule := &s.rules[i]
		if err := check(rule.Prefix); err != nil {
			problems = append(problems, fmt.Errorf("rule %s: %w", clean(rule.ID), err))
			continue
		}
		if first, twice := seen[rule.Prefix]; twice {
			problems = append(problems, fmt.Errorf("rule %s: %v is a duplicate of rule %s; remove one of them",
				clean(rule.ID), rule.Prefix, clean(first)))
			continue
		}
		seen[rule.Prefix] = rule.ID
		if err := s.tree.Insert(entry{rule}); err != nil {
			problems = append(problems, fmt.Errorf("rule %s: insert %v: %w", clean(rule.ID), rule.Prefix, err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return s, nil
}

// check refuses what the tree would take and answer wrongly.
func check(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("no valid prefix; write one like 192.0.2.0/24 or 2001:db8::/32")
	case p.Addr().Is4In6() && p.Bits() >= 96:
		return fmt.Errorf("%v is IPv4 in IPv6 notation; write %v", p, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96))
	case p != p.Masked():
		return fmt.Errorf("%v has host bits set; write %v for the network or %v for the one address",
			p, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	return nil
}

// Match returns the rule that allows the address at the moment: of the unexpired rules that cover it, the one with
// the longest prefix. The rule is shared and must not be changed.
//
// A zone ("fe80::1%eth0") is ignored: rules have none, and a link-local rule means its addresses on any interface.
// An invalid address matches nothing.
func (s *Set) Match(addr netip.Addr, now time.Time) (*Rule, bool) {
	if s == nil || !addr.IsValid() {
		return nil, false
	}
	// Unmapped before it is asked, since an address decides which of the two trees is asked. AsSlice also
	// drops the zone.
	covering, err := s.tree.ContainingNetworks(addr.Unmap().AsSlice())
	if err != nil {
		return nil, false // impossible for 4 and 16 bytes; and if not, nobody comes in
	}
	for _, found := range slices.Backward(covering) { // shortest prefix first
		if rule := found.(entry).Rule; !rule.Expired(now) {
			return rule, true
		}
	}
	return nil, false
}

// Rules returns a copy of the rules, in the order of [New].
func (s *Set) Rules() []Rule {
	if s == nil {
		return nil
	}
	return slices.Clone(s.rules)
}

func clean(id string) string { return safetext.Escape(id, maxText) }
