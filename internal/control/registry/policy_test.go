package registry

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// trickyTexts are descriptions that a writer or a reader of YAML could take for something else.
var trickyTexts = []string{
	"? ask Bob what this is", "- a", ": a", "a: b", "# a", "a # b", "%a", "@a", "!tag", "&anchor", "*alias", "|", ">", "...", "---", "<<", "{a", "[a", "}", "'", `"`, `\`, `\n`,
	" ", "   ", " a", "a ", "0", "010", "null", "~", "yes", "2027-01-01", "\U0001f3e2", "\ufffd", "e\u0301", "a\tb", "a\nb", "\x00", "a\x00b", "\u0085", "\u2028", "\u2029", "\ufeffa", "\u00a0", "\u202e",
	"\x1b[31m", "a\xffb", strings.Repeat("?", maxDescription), strings.Repeat("é", maxDescription), "ip_rules: []", "`a`", "= a", ", a",
}

// read parses the policy that the proxies of a database are given, as they do.
func (w *world) read(name string) *config.Policy {
	w.t.Helper()
	policy, err := w.Policy(w.ctx, w.is(name).ID)
	w.done(policy, err)
	if err := policyformat.Check(policy); err != nil {
		w.t.Fatal(err)
	}
	parsed, err := config.ParsePolicy(api.PolicyFile, policy.Files[api.PolicyFile])
	w.done(parsed, err)
	return parsed
}

// A description that the proxies can't read would stop every later policy of the database, revocations included.
func TestDescriptionIsRefusedOrReadAsItWasWritten(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	for i, text := range trickyTexts {
		before := w.is("orders")
		rule, err := w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: fmt.Sprintf("10.0.%d.0/24", i), Description: text})
		if err != nil {
			if !problem.Is(err, problem.InvalidParams) {
				t.Errorf("%q: %v", text, err)
			}
			if after := w.is("orders"); after.Generation != before.Generation || len(after.Rules) != len(before.Rules) {
				t.Errorf("%q is refused, and stored", text)
			}
			continue
		}
		rules := w.read("orders").IPRules
		if last := rules[len(rules)-1]; last.ID != rule.ID || last.Description != text {
			t.Errorf("%q came back as %q", text, last.Description)
		}
		w.done(w.DeleteRule(w.ctx, admin, "orders", rule.ID))
		w.acknowledged("orders")
	}
}

// What an earlier version has stored is written quoted, and so is no longer in the way.
func TestStoreOfAnEarlierVersionHeals(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	for i, text := range []string{"? ask Bob what this is", "- a", "!tag"} {
		db.Rules = append(db.Rules, Rule{ID: fmt.Sprint("rule-", i), CIDR: fmt.Sprintf("10.0.%d.0/24", i), Description: text, Status: Authorizing, Generation: db.Generation})
	}
	tx := new(store.Tx)
	w.done(nil, docstore.Put(tx, KeyDatabases+db.ID, db))
	w.done(w.docs.Commit(w.ctx, tx))
	if rules := w.read("orders").IPRules; len(rules) != 3 || rules[0].Description != "? ask Bob what this is" {
		t.Errorf("rules are %+v", rules)
	}
	w.done(w.DeleteRule(w.ctx, admin, "orders", "rule-0"))
}

func TestPolicyThatTheProxiesCouldNotReadIsNeverStored(t *testing.T) {
	w := newWorld(t)
	before := w.operational("orders")
	for name, bad := range map[string]Rule{
		"a text that is too long":   {ID: "a", CIDR: "10.0.0.0/24", Description: strings.Repeat("a", 257)},
		"a text that is no UTF-8":   {ID: "a", CIDR: "10.0.0.0/24", Description: "a\xffb"},
		"a NUL":                     {ID: "a", CIDR: "10.0.0.0/24", Description: "a\x00b"},
		"an id with a line end":     {ID: "a\nb", CIDR: "10.0.0.0/24"},
		"no id":                     {CIDR: "10.0.0.0/24"},
		"a network that is none":    {ID: "a", CIDR: "10.0.0.1/24"},
		"an end before there was 0": {ID: "a", CIDR: "10.0.0.0/24", ExpiresAt: w.at.AddDate(-2000, 0, 0)},
	} {
		_, err := w.change(w.ctx, admin, "orders", func(c *change) error {
			bad.Generation = c.newPolicy()
			c.db.Rules = append(c.db.Rules, bad)
			return nil
		})
		refused(t, err, problem.InvalidParams, "nothing was changed")
		if after := w.is("orders"); after.Generation != before.Generation || len(after.Rules) != 0 {
			t.Errorf("%s is stored", name)
		}
	}
}

// FuzzPolicyTexts: what the registry takes for a description, the proxies read as the same.
func FuzzPolicyTexts(f *testing.F) {
	for _, text := range trickyTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if checkText("description", text, maxDescription) != nil {
			return
		}
		if !utf8.ValidString(text) {
			t.Fatalf("%q is taken", text)
		}
		c := &change{before: 1, db: &Database{ID: newID(), Generation: 2, Server: &ServerLeaf{}, Trust: []Trust{{}, {}},
			Rules: []Rule{{ID: newID(), CIDR: "10.0.0.0/8", Description: text}, {ID: newID(), CIDR: "::/0"}}}}
		if err := c.checkPolicy(); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// BenchmarkCheckPolicy is what a change with sixty rules costs more, since its policy is read before it counts.
func BenchmarkCheckPolicy(b *testing.B) {
	c := &change{before: 1, db: &Database{ID: newID(), Generation: 2, Server: &ServerLeaf{}, Trust: []Trust{{}, {}}}}
	for i := range MaxRules {
		c.db.Rules = append(c.db.Rules, Rule{ID: newID(), CIDR: fmt.Sprintf("10.%d.0.0/16", i), Description: "one of sixty"})
	}
	for b.Loop() {
		if err := c.checkPolicy(); err != nil {
			b.Fatal(err)
		}
	}
}
