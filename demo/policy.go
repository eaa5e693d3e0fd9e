package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/testpki"
)

// policy is what the demo, in the part of the control plane, writes into policy.yaml.
type policy struct {
	generation int
	revoked    []string // serials
	rules      []rule
	keep       bool // sessions go on when their rule is removed
}

type rule struct{ id, cidr, description string }

// thisMachine is the rule that the demo's clients come in by; the other shows that there can be several. The
// network is one for documentation, in which nobody lives (RFC 5737).
var (
	thisMachine = rule{"this-machine", "127.0.0.1/32", "The machine that the demo runs on"}
	office      = rule{"office", "192.0.2.0/24", "Nobody, in this demo"}
)

func firstPolicy() policy {
	return policy{generation: 1, rules: []rule{thisMachine, office}, keep: true}
}

// yaml is the text of policy.yaml.
func (p policy) yaml() string {
	var text strings.Builder
	fmt.Fprintf(&text, "generation: \"%d\"\n", p.generation)
	text.WriteString("client_auth: required\nclient_ca: [space-ca.pem]\n")
	for i, serial := range p.revoked {
		if i == 0 {
			text.WriteString("revoked:\n")
		}
		fmt.Fprintf(&text, "  - %q\n", serial)
	}
	text.WriteString("certificates:\n  - {cert: server.crt, key: server.key}\nip_rules:\n")
	for _, r := range p.rules {
		fmt.Fprintf(&text, "  - {id: %s, cidr: %s, description: %q}\n", r.id, r.cidr, r.description)
	}
	if p.keep {
		text.WriteString("on_removal: keep   # a session that has begun goes on when its rule is removed\n")
	} else {
		text.WriteString("on_removal: end    # and ends when its rule is removed\n")
	}
	return text.String()
}

func (d *demo) writePolicy() error {
	return testpki.WriteFile(d.path("policy", "policy.yaml"), []byte(d.policy.yaml()), 0o644)
}

// edit writes a changed policy.yaml, shows the lines that differ, and gives the moment of the write.
func (d *demo) edit(change func(*policy)) (written time.Time, err error) {
	before := d.policy.yaml()
	d.policy.revoked, d.policy.rules = slices.Clone(d.policy.revoked), slices.Clone(d.policy.rules)
	change(&d.policy)
	d.policy.generation++
	d.show.say("policy.yaml is written anew:")
	d.show.output(difference(before, d.policy.yaml()))
	written = time.Now()
	return written, d.writePolicy()
}

// difference lists the lines that are in one of the texts only.
func difference(before, after string) string {
	old, fresh := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	var text strings.Builder
	for _, line := range old {
		if !slices.Contains(fresh, line) {
			text.WriteString("- " + line)
		}
	}
	for _, line := range fresh {
		if !slices.Contains(old, line) {
			text.WriteString("+ " + line)
		}
	}
	return text.String()
}

// inForce waits until the proxy follows what edit wrote.
func (d *demo) inForce(ctx context.Context) error {
	want := fmt.Sprint(d.policy.generation)
	return until(ctx, func(ctx context.Context) error {
		now, err := d.status(ctx)
		switch {
		case err != nil:
			return err
		case now.Reload.Error != "":
			return errors.New(now.Reload.Error)
		case now.Policy.Generation != want:
			return fmt.Errorf("generation %s of the policy is in force, not %s", now.Policy.Generation, want)
		}
		return nil
	})
}
