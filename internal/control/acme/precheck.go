package acme

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxSkew is how far this machine's clock may be from an authority's. Beyond it, whether a certificate is valid, and
// when it should be renewed, can't be told.
const maxSkew = 5 * time.Minute

// precheck finds out what an authority would refuse, before an order costs anything.
type precheck struct {
	resolver   Resolver
	method     string   // the challenge, such as dns-01
	identities []string // names of the authority in CAA records; none: it does not tell them
	account    string   // URL
}

// run checks every name. Its error is a *[Problem], or that of ctx.
func (p precheck) run(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := p.caa(ctx, name); err != nil {
			return err
		}
		if p.method != methodDNS || strings.HasPrefix(name, "*.") {
			continue
		}
		if err := p.wildcardHost(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// caa looks for the records that say who may issue (RFC 8659): those of the name, or of the nearest name above it that
// has any.
func (p precheck) caa(ctx context.Context, name string) error {
	if len(p.identities) == 0 {
		return nil
	}
	plain, wildcard := strings.CutPrefix(name, "*.")
	for at := canonical(plain); at != "."; at = above(at) {
		records, _, err := p.resolver.query(ctx, at, dns.TypeCAA)
		if err != nil {
			return err
		}
		if len(records) > 0 {
			return p.allowed(at, records, wildcard)
		}
	}
	return nil
}

// allowed judges one set of CAA records. A critical property that is not known forbids.
func (p precheck) allowed(at string, records []dns.RR, wildcard bool) error {
	var issue, issueWild []string
	for _, record := range records {
		caa := record.(*dns.CAA)
		switch tag := strings.ToLower(caa.Tag); {
		case tag == "issue":
			issue = append(issue, caa.Value)
		case tag == "issuewild":
			issueWild = append(issueWild, caa.Value)
		case caa.Flag&128 != 0 && tag != "iodef" && tag != "contactemail" && tag != "contactphone" && tag != "issuemail" && tag != "issuevmc":
			return newProblem(CAAForbids, "the CAA records at %s have a critical property %q that is not known; remove it", at, caa.Tag)
		}
	}
	if wildcard && len(issueWild) > 0 {
		issue = issueWild
	}
	if len(issue) == 0 || slices.ContainsFunc(issue, p.permits) {
		return nil
	}
	return newProblem(CAAForbids, `the CAA records at %s allow %s, not %s; add: CAA 0 issue "%s; accounturi=%s; validationmethods=%s"`,
		at, strings.Join(issue, " and "), p.identities[0], p.identities[0], p.account, p.method)
}

// permits reports whether one issue property allows the authority, the account and the method (RFC 8657).
func (p precheck) permits(value string) bool {
	parts := strings.Split(value, ";")
	if !slices.Contains(p.identities, strings.ToLower(strings.TrimSpace(parts[0]))) {
		return false
	}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "accounturi":
			if value != p.account {
				return false
			}
		case "validationmethods":
			if !slices.ContainsFunc(strings.Split(value, ","), func(m string) bool { return strings.TrimSpace(m) == p.method }) {
				return false
			}
		}
	}
	return true
}

// wildcardHost refuses a name that has its addresses from a wildcard record only. A record below the name, as the
// challenge needs one, makes the name exist by itself (RFC 4592, section 2.2.3), and then it has no addresses: the
// host would be gone for as long as the challenge is there.
func (p precheck) wildcardHost(ctx context.Context, name string) error {
	found, err := p.resolver.addresses(ctx, name)
	if err != nil || len(found) == 0 {
		return err
	}
	// A name that exists by itself has nothing below it but what somebody made.
	below, err := p.resolver.addresses(ctx, randomLabel()+"."+name)
	if err != nil || len(below) == 0 {
		return err
	}
	beside, err := p.resolver.addresses(ctx, randomLabel()+"."+above(name))
	if err != nil || len(beside) == 0 {
		return err
	}
	return newProblem(WildcardHost, "%s has its address %s from a wildcard record, and a challenge below it would make it vanish; give it an address record of its own, or prove the names by dns-persist-01",
		name, found[0])
}

// clockProblem compares this machine's clock with what the authority said in its last answer.
func clockProblem(ahead time.Duration, host string) *Problem {
	if ahead.Abs() <= maxSkew {
		return nil
	}
	word := "behind"
	if ahead < 0 {
		word = "ahead of"
	}
	p := newProblem(ClockWrong, "this machine's clock is %s %s that of %s; set it right (timedatectl set-ntp true)", ahead.Abs().Round(time.Second), word, host)
	p.Everybody = true
	return p
}
