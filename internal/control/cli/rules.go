package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

func (a *app) rules() *cobra.Command {
	list := &cobra.Command{
		Use:               "list DB",
		Short:             "List the IP rules of a database",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			rules, err := s.Rules(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(rules, func() { s.out.rules(s.args[0], rules) })
		}),
	}
	return a.client(group(&cobra.Command{
		Use:   "ip-rules DB",
		Short: "Manage the networks that may connect to a database",
	}, list, a.createRule(), a.getRule(), a.deleteRule()))
}

func (p *printer) rules(database string, rules []api.Rule) {
	if len(rules) == 0 {
		p.line("There are no IP rules, so no client can connect. Allow a network: pgmtls ip-rules create %s --cidr 203.0.113.7/32", clean(database))
		return
	}
	var all []string
	for _, r := range rules {
		all = append(all, r.ID)
	}
	id := p.ids(all)
	rows := [][]string{{"ID", "CIDR", "STATUS", onlyWide + "CREATED", "EXPIRES", "DESCRIPTION"}}
	for _, r := range rules {
		rows = append(rows, []string{id(r.ID), r.CIDR, r.Status, moment(r.CreatedAt), or(p.moment(r.ExpiresAt), "never"), r.Description})
	}
	p.table(rows...)
	for _, r := range rules {
		if remark := wide(r.CIDR); remark != "" {
			p.line("%s", p.warning("Note: "+clean(remark)+"."))
		}
	}
}

func (p *printer) rule(r api.Rule) {
	p.block(
		row{"id", r.ID}, row{"cidr", r.CIDR}, row{"description", r.Description}, row{"status", r.Status},
		row{"created", moment(r.CreatedAt)}, row{"updated", moment(r.UpdatedAt)}, row{"expires", moment(r.ExpiresAt)},
		row{"note", wide(r.CIDR)},
	)
}

func (a *app) createRule() *cobra.Command {
	var (
		rule    api.NewRule
		expires string
		wait    waiting
		confirm confirmation
	)
	cmd := &cobra.Command{
		Use:   "create DB --cidr CIDR",
		Short: "Allow a network",
		Example: `  pgmtls ip-rules create shop --cidr 203.0.113.7/32 --description "My office" --wait
  pgmtls ip-rules create shop --cidr 2001:db8:7::/48 --expires 8h`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			since := s.app.env.Now()
			if expires != "" {
				var err error
				if rule.ExpiresAt, err = parseUntil(expires, since); err != nil {
					return err
				}
			}
			if remark := wide(rule.CIDR); remark != "" {
				consequence := remark + ". Only client certificates and passwords keep strangers out of " + s.args[0] + " then."
				if err := s.confirm(confirm, s.args[0], consequence); err != nil {
					return err
				}
			}
			created, err := s.CreateRule(s, s.args[0], rule)
			if wait.wanted && isID(err, api.InvalidParams) {
				if existing, found := s.sameRule(rule); found {
					s.note("there is a rule for %s already", clean(existing.CIDR))
					created, err = existing, nil
				}
			}
			if err != nil {
				return err
			}
			waited := s.reach(wait, ruleTarget(s, ruleWait{rule: &created, since: since}))
			return after(waited, s.out.show(created, func() { s.out.rule(created) }))
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&rule.CIDR, "cidr", "", "the `network`, such as 203.0.113.7/32 or 2001:db8::/48")
	flags.StringVar(&rule.Description, "description", "", "name of its holder")
	flags.StringVar(&expires, "expires", "", "`when` it expires: 8h, 30d, 2027-01-31 or a time in RFC 3339")
	wait.flags(cmd, api.Authorized)
	confirm.flag(cmd, "database, for a network that lets in nearly everybody")
	_ = cmd.MarkFlagRequired("cidr") // it is there
	return cmd
}

// sameRule finds a rule of the database that says what is asked for: the same network and expiry, and no other description.
func (s *session) sameRule(asked api.NewRule) (api.Rule, bool) {
	network, err := netip.ParsePrefix(asked.CIDR)
	if err != nil {
		return api.Rule{}, false
	}
	rules, err := s.Rules(s, s.args[0])
	if err != nil {
		return api.Rule{}, false // why the rule can't be created is the better error
	}
	for _, rule := range rules {
		has, err := netip.ParsePrefix(rule.CIDR)
		if err == nil && has == network && rule.Status != api.Deauthorizing && rule.ExpiresAt.Equal(asked.ExpiresAt) &&
			(asked.Description == "" || asked.Description == rule.Description) {
			return rule, true
		}
	}
	return api.Rule{}, false
}

// ruleWait is what is waited for; the rule is kept up to date meanwhile.
type ruleWait struct {
	rule  *api.Rule
	gone  bool
	since time.Time
}

func ruleTarget(s *session, w ruleWait) target {
	want := api.Authorized
	if w.gone {
		want = "gone"
	}
	return target{
		database: s.args[0], kind: api.WaitingRule, id: w.rule.ID, name: w.rule.CIDR, want: want, gone: w.gone, since: w.since,
		state: func(ctx context.Context) (string, error) {
			now, err := s.Rule(ctx, s.args[0], w.rule.ID)
			if err == nil {
				*w.rule = now
			}
			return now.Status, err
		},
	}
}

// chosen are the flags that name one rule.
type chosen struct{ id, cidr string }

func (c *chosen) flags(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.id, "id", "", "the rule's `id`")
	cmd.Flags().StringVar(&c.cidr, "cidr", "", "the rule's `network`, instead of its id")
	cmd.MarkFlagsOneRequired("id", "cidr")
	cmd.MarkFlagsMutuallyExclusive("id", "cidr")
	a.ids(cmd, ruleIDs)
}

// find returns the rule that the flags name.
func (c *chosen) find(s *session) (api.Rule, error) { return c.among(s, false) }

// among is find, which also finds a network whose rule is being deleted, if leaving is set and it has no other.
func (c *chosen) among(s *session, leaving bool) (api.Rule, error) {
	if c.id != "" {
		id, err := s.wholeRule(c.id)
		if err != nil {
			return api.Rule{}, err
		}
		return s.Rule(s, s.args[0], id)
	}
	rules, err := s.Rules(s, s.args[0])
	if err != nil {
		return api.Rule{}, err
	}
	for _, deleted := range []bool{false, true} {
		for _, rule := range rules {
			if rule.CIDR == c.cidr && (rule.Status == api.Deauthorizing) == deleted && (leaving || !deleted) {
				return rule, nil
			}
		}
	}
	return api.Rule{}, fmt.Errorf("%s has no rule for %s: pgmtls ip-rules %[1]s lists them", clean(s.args[0]), clean(c.cidr))
}

func (a *app) getRule() *cobra.Command {
	var which chosen
	cmd := &cobra.Command{
		Use:               "get DB --id ID",
		Short:             "Show an IP rule",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			rule, err := which.find(s)
			if err != nil {
				return err
			}
			return s.out.show(rule, func() { s.out.rule(rule) })
		}),
	}
	which.flags(a, cmd)
	return cmd
}

func (a *app) deleteRule() *cobra.Command {
	var (
		which chosen
		wait  waiting
		dry   bool
	)
	cmd := &cobra.Command{
		Use:   "delete DB --id ID",
		Short: "Delete an IP rule and end the sessions it allowed",
		Example: `  pgmtls ip-rules delete shop --cidr 203.0.113.7/32 --dry-run
  pgmtls ip-rules delete shop --cidr 203.0.113.7/32 --wait`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			rule, err := which.among(s, wait.wanted)
			if err != nil {
				return err
			}
			if dry {
				return dryRun(s, rule)
			}
			since := s.app.env.Now()
			if rule, err = s.DeleteRule(s, s.args[0], rule.ID); err != nil {
				return err
			}
			waited := s.reach(wait, ruleTarget(s, ruleWait{rule: &rule, gone: true, since: since}))
			if wait.wanted && waited == nil && !s.app.json {
				return nil // it is said already that it is gone
			}
			return after(waited, s.out.show(rule, func() { s.out.rule(rule) }))
		}),
	}
	which.flags(a, cmd)
	wait.flags(cmd, "gone on every proxy")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show the sessions that it would end")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "wait")
	return cmd
}

// dryRun shows what a delete would do. It is an error if a proxy did not answer: then nobody knows.
func dryRun(s *session, rule api.Rule) error {
	result, err := s.DryRunDeleteRule(s, s.args[0], rule.ID)
	if err != nil {
		return err
	}
	err = s.out.show(result, func() { s.out.dryRun(result) })
	for _, proxy := range result.Proxies {
		switch {
		case err != nil:
		case proxy.Effect == nil:
			err = errors.New("not every proxy answered, so there may be more sessions")
		case !proxy.Effect.OK:
			err = errors.New("a proxy would refuse the policy")
		}
	}
	return err
}

func (p *printer) dryRun(result api.RuleDryRun) {
	p.line("Deleting %s would end %s. Nothing was changed.", clean(result.Rule.CIDR), count(result.Ended, "session"))
	rows := [][]string{{"PROXY", "ADDRESS", "SINCE", "USER", "DATABASE", "CONNECTION"}}
	for _, proxy := range result.Proxies {
		if proxy.Effect == nil {
			p.line("%s does not answer: %s", clean(proxy.Proxy), clean(proxy.Error))
			continue
		}
		for _, problem := range proxy.Effect.Problems {
			p.line("%s would refuse it: %s", clean(proxy.Proxy), clean(problem))
		}
		for _, session := range proxy.Effect.Sessions {
			rows = append(rows, []string{proxy.Proxy, session.Addr, p.moment(session.Since), session.User, session.Database, session.Connection})
		}
	}
	if len(rows) > 1 {
		p.line("")
		p.table(rows...)
		if more := result.Ended - len(rows) + 1; more > 0 {
			p.line("and %d more", more)
		}
	}
}
