package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/safetext"
)

func newDryRun(path *string, env environment) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "dry-run --config proxy.yaml policy-new.yaml",
		Short: "Ask the running proxy what a policy would do, without putting it in force",
		Long: `dry-run sends the text of a policy to the running proxy, at the admin address of
the configuration. The proxy reads the files that it names from its own policy directory: put
new certificates there first. The proxy reports what is wrong with it, or what would
change and which live sessions would end. Nothing is changed.

It exits with 0 if the policy would come into force, with 2 if it would be refused,
and with 1 if the proxy can't be reached.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			proxy, err := load(*path, env)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return &exit{code: exitUsage, err: fmt.Errorf("read the policy: %w", err)}
			}
			answer, err := query(cmd.Context(), proxy.Admin, adminapi.Request{Path: "/dry-run", Query: url.Values{"name": {args[0]}}, ContentType: "application/yaml", Body: text})
			if err != nil {
				return &exit{code: exitFailure, err: err}
			}
			var d adminapi.Verdict
			if err := json.Unmarshal(answer, &d); err != nil {
				return &exit{code: exitFailure, err: fmt.Errorf("read the answer: %w", err)}
			}
			switch {
			case raw:
				err = env.print(safetext.JSON(answer))
			case d.OK:
				var text bytes.Buffer
				printDryRun(&text, &d.DryRun)
				err = env.print(text.Bytes())
			default:
				for _, p := range d.Problems {
					_, _ = fmt.Fprintln(env.stderr, p.Text) // the exit code says that there are some
				}
			}
			if err != nil {
				return err
			}
			if !d.OK {
				return &exit{code: exitUsage, err: errors.New("the policy would be refused"), silent: true}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print the answer as JSON")
	return cmd
}

// maxShownName bounds a name of a change, in bytes.
const maxShownName = 512

func printDryRun(to *bytes.Buffer, d *adminapi.DryRun) {
	fmt.Fprintf(to, "The policy, generation %q, would come into force.\n\n", d.Generation)
	printChanges(to, d)
	for _, problem := range d.LeftOut {
		fmt.Fprintf(to, "\nNot served: %s\n", problem)
	}
	fmt.Fprintf(to, "\nSessions: %d would be ended, %d would go on.\n", d.Ended, d.Kept)
	if d.OnRemoval == "keep" {
		fmt.Fprintln(to, "on_removal is keep: live sessions continue, whatever the policy says.")
	}
	for _, reason := range slices.Sorted(maps.Keys(d.ByReason)) {
		fmt.Fprintf(to, "  %d as %s\n", d.ByReason[reason], reason)
	}
	for _, rule := range slices.Sorted(maps.Keys(d.ByRule)) {
		fmt.Fprintf(to, "  %d of rule %s\n", d.ByRule[rule], rule)
	}
	for _, c := range d.ByCertificate {
		fmt.Fprintf(to, "  %d of certificate %s, %s\n", c.Sessions, c.Serial, c.Subject)
	}
	for _, s := range d.Sessions {
		fmt.Fprintf(to, "  %s  %s  %s  %s\n", s.Connection, s.Addr, s.User, s.Reason)
	}
	if more := d.Ended - len(d.Sessions); more > 0 {
		fmt.Fprintf(to, "  and %d more\n", more)
	}
}

func printChanges(to *bytes.Buffer, d *adminapi.DryRun) {
	if d.Unchanged {
		fmt.Fprintln(to, "The policy is identical to the one in force.")
		return
	}
	c := d.Changes
	changed := false
	for _, list := range []struct {
		sign, what string
		names      []string
	}{
		{"+", "IP rule", c.RulesAdded}, {"-", "IP rule", c.RulesRemoved},
		{"+", "certificate", c.CertificatesAdded}, {"-", "certificate", c.CertificatesRemoved},
		{"+", "client CA", c.ClientCAsAdded}, {"-", "client CA", c.ClientCAsRemoved},
	} {
		for _, name := range list.names {
			changed = true
			fmt.Fprintf(to, "%s %s %s\n", list.sign, list.what, safetext.Escape(name, maxShownName))
		}
	}
	for _, each := range []struct {
		changed bool
		what    string
	}{
		{c.Trust, "trust: CAs, revocation lists or revoked serials"}, {c.ClientAuth, "client_auth"}, {c.Identities, "identities"},
	} {
		if each.changed {
			changed = true
			fmt.Fprintf(to, "~ %s\n", each.what)
		}
	}
	if !changed {
		fmt.Fprintln(to, "No rule, certificate, CA, revocation or identity changes.")
	}
}
