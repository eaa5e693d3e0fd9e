package apiserver

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/registry"
)

func listRules(c *call) error {
	rules := make([]api.Rule, len(c.db.Rules))
	for i, rule := range c.db.Rules {
		rules[i] = showRule(rule)
	}
	return c.answer(http.StatusOK, rules)
}

func createRule(c *call) error {
	var body api.NewRule
	if err := c.read(&body); err != nil {
		return err
	}
	rule, err := c.server.registry.CreateRule(c.ctx(), c.actor(), c.db.ID, registry.NewRule{CIDR: body.CIDR, Description: body.Description, ExpiresAt: body.ExpiresAt})
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, showRule(rule))
}

func getRule(c *call) error {
	rule, err := c.rule()
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, showRule(rule))
}

// rule is the rule of the path.
func (c *call) rule() (registry.Rule, error) {
	id := c.r.PathValue("rule")
	if i := slices.IndexFunc(c.db.Rules, func(r registry.Rule) bool { return strings.EqualFold(r.ID, id) }); i >= 0 {
		return c.db.Rules[i], nil
	}
	return registry.Rule{}, notFound("database %s has no IP rule %s", c.db.Name, problem.Quote(id))
}

func deleteRule(c *call) error {
	rule, err := c.rule()
	if err != nil {
		return err
	}
	dry, err := c.flag("dry_run")
	if err != nil {
		return err
	}
	if dry {
		return c.tryWithout(rule)
	}
	if rule, err = c.server.registry.DeleteRule(c.ctx(), c.actor(), c.db.ID, rule.ID); err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, showRule(rule))
}

// tryWithout asks every proxy what would happen without a rule, all at the same time.
func (c *call) tryWithout(rule registry.Rule) error {
	policy, err := c.server.registry.WithoutRule(c.ctx(), c.db.ID, rule.ID)
	if err != nil {
		return err
	}
	result := api.RuleDryRun{Rule: showRule(rule), Proxies: make([]api.ProxyEffect, len(c.db.Proxies))}
	var asking sync.WaitGroup
	for i, proxy := range c.db.Proxies {
		asking.Go(func() {
			answer, err := c.server.queries.Ask(c.ctx(), c.db.ID, proxy.Name, proxyquery.Question{Policy: policy})
			effect := api.ProxyEffect{Proxy: proxy.Name, Error: answer.Error}
			switch {
			case err != nil:
				effect.Error = failure(err).Message
			case answer.Error == "":
				effect.Effect = &answer.Effect
			}
			result.Proxies[i] = effect
		})
	}
	asking.Wait()
	for _, proxy := range result.Proxies {
		if proxy.Effect != nil {
			result.Ended += proxy.Effect.Ended
		}
	}
	return c.answer(http.StatusOK, result)
}

// flag reads a query parameter that is true or false, false when it is not there.
func (c *call) flag(name string) (bool, error) {
	text := c.r.URL.Query().Get(name)
	if text == "" && !c.r.URL.Query().Has(name) {
		return false, nil
	}
	// A typing error in dry_run must not delete something.
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, invalid("%s must be true or false, not %s", name, problem.Quote(text))
	}
	return on, nil
}

func showRule(r registry.Rule) api.Rule {
	return api.Rule{ID: r.ID, CIDR: r.CIDR, Description: r.Description, Status: string(r.Status),
		CreatedAt: utc(r.CreatedAt), UpdatedAt: utc(r.UpdatedAt), ExpiresAt: utc(r.ExpiresAt)}
}
