package registry

import (
	"context"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/problem"
)

// MaxRules is how many IP rules a database has at most, those that are being deleted not counted.
const MaxRules = config.MaxIPRules

// NewRule is an IP rule to be made.
type NewRule struct {
	CIDR, Description string
	ExpiresAt         time.Time // zero: never
}

// CreateRule lets a network in. The rule is Authorizing until every proxy follows it.
func (r *Registry) CreateRule(ctx context.Context, by audit.Actor, db string, n NewRule) (Rule, error) {
	prefix, err := config.ParseCIDR(n.CIDR)
	if err != nil {
		return Rule{}, problem.New(problem.InvalidParams, "cidr: %s", err)
	}
	if err := checkText("description", n.Description, maxDescription); err != nil {
		return Rule{}, err
	}
	var id string
	changed, err := r.change(ctx, by, db, func(c *change) error {
		c.adds = true
		if err := c.admits(); err != nil {
			return err
		}
		if !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(c.now) {
			return problem.New(problem.InvalidParams, "expires_at %s is in the past; use a future time, or omit it", n.ExpiresAt.Format(time.RFC3339))
		}
		live := 0
		for _, rule := range c.db.Rules {
			if rule.Status == Deauthorizing {
				continue
			}
			if live++; rule.CIDR == prefix.String() {
				return problem.New(problem.InvalidParams, "cidr: %s already has a rule: %s", rule.CIDR, rule.ID)
			}
		}
		if live >= MaxRules {
			return problem.New(problem.InvalidParams, "database %s has %d IP rules, and the maximum is %d; delete one, or merge adjacent networks", c.db.Name, live, MaxRules)
		}
		rule := Rule{ID: newID(), CIDR: prefix.String(), Description: n.Description, Status: Authorizing, Generation: c.newPolicy(),
			CreatedAt: c.now, UpdatedAt: c.now, ExpiresAt: n.ExpiresAt.UTC().Truncate(time.Second)}
		if n.ExpiresAt.IsZero() {
			rule.ExpiresAt = time.Time{}
		}
		id = rule.ID
		c.db.Rules = append(c.db.Rules, rule)
		return c.audit("ip_rule.create", id, map[string]string{"cidr": rule.CIDR, "description": rule.Description})
	})
	if err != nil {
		return Rule{}, err
	}
	return *changed.rule(id), nil
}

// DeleteRule takes a rule back. It stays listed as Deauthorizing until every proxy has ended the sessions that only it
// allowed.
func (r *Registry) DeleteRule(ctx context.Context, by audit.Actor, db, id string) (Rule, error) {
	var deleted Rule
	_, err := r.change(ctx, by, db, func(c *change) error {
		rule := c.db.rule(id)
		if rule == nil {
			return noRule(c.db.Name, id)
		}
		if rule.Status == Deauthorizing {
			deleted = *rule
			return errUnchanged
		}
		c.removeRule(rule)
		deleted = *rule
		return c.audit("ip_rule.delete", id, map[string]string{"cidr": rule.CIDR})
	})
	return deleted, err
}

// removeRule leaves a rule out of the next policy. One that is still Authorizing waits for the proxies too: they may be
// applying it right now.
func (c *change) removeRule(rule *Rule) {
	rule.Status, rule.Generation, rule.UpdatedAt = Deauthorizing, c.newPolicy(), c.now
}

// WithoutRule returns the policy that a delete of the rule would make, without making it.
func (r *Registry) WithoutRule(ctx context.Context, nameOrID, id string) (api.Policy, error) {
	db, err := r.Database(ctx, nameOrID)
	if err != nil {
		return api.Policy{}, err
	}
	rule := db.rule(id)
	if rule == nil {
		return api.Policy{}, noRule(db.Name, id)
	}
	db.Rules = slices.DeleteFunc(slices.Clone(db.Rules), func(r Rule) bool { return r.ID == id })
	db.Generation++
	return r.render(ctx, db)
}

// rule finds a rule by its id.
func (db *Database) rule(id string) *Rule {
	if i := slices.IndexFunc(db.Rules, func(r Rule) bool { return strings.EqualFold(r.ID, id) }); i >= 0 {
		return &db.Rules[i]
	}
	return nil
}

func noRule(db, id string) error {
	return problem.New(problem.NotFound, "database %s has no IP rule %s", db, problem.Quote(id))
}
