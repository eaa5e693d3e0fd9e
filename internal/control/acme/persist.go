package acme

import (
	"context"
	"strings"
)

// persist looks for a record that proves each name by dns-persist-01: at the name, or for all names below one above it.
func (p precheck) persist(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := p.persistName(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (p precheck) persistName(ctx context.Context, name string) error {
	plain, wildcard := strings.CutPrefix(name, "*.")
	top := canonical(registeredDomains([]string{plain})[0])
	for at := canonical(plain); isBelow(at, top); at = above(at) {
		values, _, err := p.resolver.texts(ctx, persistName(at))
		if err != nil {
			return err
		}
		for _, value := range values {
			if p.proves(value, wildcard || at != canonical(plain)) {
				return nil
			}
		}
	}
	issuer := "ISSUER"
	if len(p.identities) > 0 {
		issuer = p.identities[0]
	}
	record := PersistRecord(plain, issuer, p.account)
	return newProblem(DNSFailed, `no record proves %s by dns-persist-01; make one: %s TXT "%s"`, name, record.Name, record.Value)
}

// proves reports whether the value of a record is for this authority, account and kind of name.
func (p precheck) proves(value string, needsPolicy bool) bool {
	parts := strings.Split(value, ";")
	if len(p.identities) > 0 && !p.permits(strings.TrimSpace(parts[0])) {
		return false
	}
	account, policy := false, false
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "accounturi":
			account = strings.TrimSpace(value) == p.account
		case "policy":
			policy = strings.EqualFold(strings.TrimSpace(value), "wildcard")
		}
	}
	return account && (policy || !needsPolicy)
}
