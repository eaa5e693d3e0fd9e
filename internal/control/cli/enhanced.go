package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

// longWait is how long --wait waits for a public authority.
const longWait = 15 * time.Minute

func (a *app) enhanced() *cobra.Command {
	status := &cobra.Command{
		Use:               "status DB",
		Short:             "Show the public certificate of a database, and what it waits for",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			is, err := s.EnhancedCertificate(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(is, func() {
				s.out.line("=== Enhanced Certificates for %s.", clean(s.args[0]))
				s.out.enhanced(is)
			})
		}),
	}
	return a.client(group(&cobra.Command{
		Use:     "enhanced-certificates DB",
		Aliases: []string{"enhanced-certificate"},
		Short:   "Manage the publicly trusted certificate of a database",
	}, status, a.enableEnhanced(), a.disableEnhanced(), a.renewEnhanced(), a.uploadEnhanced(), a.dnsRecords()))
}

// enhanced prints a public certificate as a block. The first line is that of Heroku's client.
func (p *printer) enhanced(is api.EnhancedCertificate) {
	p.block(row{"Status", is.Status}, row{"host", is.Host}, row{"reason", is.Reason}, row{"detail", is.Detail}, row{"see", is.HelpURL},
		row{"since", moment(is.Since)}, row{"next attempt", moment(is.NextAttempt)}, row{"ends", moment(is.Ends)}, row{"issuer", is.Issuer}, row{"renewed by", map[bool]string{true: "nobody: it was uploaded"}[is.Uploaded]}, row{"url", is.URL})
}

// enhancedTarget is a public certificate that gets into a status. State names the status of what the API answers; nil: it
// is the API's.
func (s *session) enhancedTarget(is *api.EnhancedCertificate, want string, since time.Time, state func(api.EnhancedCertificate) string) target {
	name := s.args[0]
	return target{
		database: name, kind: api.WaitingEnhanced, name: name, want: want, since: since,
		state: func(ctx context.Context) (string, error) {
			now, err := s.EnhancedCertificate(ctx, name)
			if err != nil {
				return "", err
			}
			*is = now
			if state != nil {
				return state(now), nil
			}
			return now.Status, nil
		},
		waits: func() string { return waitsFor(*is) },
	}
}

// waitsFor says what a public certificate waits for, unless it is its proxies.
func waitsFor(is api.EnhancedCertificate) string {
	if is.Reason == "" || is.Reason == "delivering" || is.Reason == "withdrawing" {
		return ""
	}
	text := is.Reason
	if is.Detail != "" {
		text += " (" + is.Detail + ")"
	}
	if !is.NextAttempt.IsZero() {
		text += ", next attempt " + moment(is.NextAttempt)
	}
	return clean(text)
}

func (a *app) enableEnhanced() *cobra.Command {
	var (
		wait     waiting
		allowAll bool
		confirm  confirmation
	)
	cmd := &cobra.Command{
		Use:   "enable DB",
		Short: "Give a database a publicly trusted certificate, under a name of its own",
		Long: `Asks a public authority for a certificate for the database's public name. It is Enabled when every proxy serves it;
the private name stays valid, and no session ends. It works with mutual TLS and without. Without, IP rules alone decide
who may connect, and there are none at first: --allow-all adds rules for every address.`,
		Example: `  pgmtls enhanced-certificates enable shop --wait
  pgmtls enhanced-certificates records shop`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			name := s.args[0]
			if allowAll {
				if err := s.confirm(confirm, name, "This lets every address on the internet connect to "+name+", as far as the network does."); err != nil {
					return err
				}
			}
			since := s.app.env.Now()
			is, err := s.EnableEnhancedCertificate(s, name)
			if err != nil {
				return err
			}
			if allowAll {
				if err := s.allowAll(name); err != nil {
					return err
				}
			}
			waited := s.reach(wait, s.enhancedTarget(&is, api.EnhancedEnabled, since, nil))
			return after(waited, s.out.show(is, func() {
				s.out.enhanced(is)
				s.out.line("")
				if is.Status == api.EnhancedEnabled {
					s.out.line("How to connect: pgmtls url %s", clean(name))
				} else {
					s.out.line("What it waits for: pgmtls enhanced-certificates status %s", clean(name))
					s.out.line("The DNS records:   pgmtls enhanced-certificates records %s", clean(name))
				}
				s.remarkRules(name)
			}))
		}),
	}
	wait.flags(cmd, api.EnhancedEnabled)
	setTimeout(cmd, longWait)
	cmd.Flags().BoolVar(&allowAll, "allow-all", false, "add IP rules for every address")
	confirm.flag(cmd, "database")
	return cmd
}

// setTimeout changes how long --wait waits if nothing else is said.
func setTimeout(cmd *cobra.Command, d time.Duration) {
	flag := cmd.Flags().Lookup("timeout")
	flag.DefValue = d.String()
	_ = flag.Value.Set(flag.DefValue) // a duration is one
}

// allowAll adds the rules for every address, unless they are there.
func (s *session) allowAll(name string) error {
	rules, err := s.Rules(s, name)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, rule := range rules {
		there[rule.CIDR] = rule.Status != api.Deauthorizing
	}
	for _, cidr := range []string{"0.0.0.0/0", "::/0"} {
		if there[cidr] {
			continue
		}
		if _, err := s.CreateRule(s, name, api.NewRule{CIDR: cidr, Description: "every address"}); err != nil {
			return err
		}
	}
	return nil
}

// remarkRules says of a database that lets in by rules alone that it has none. What can't be found out is not said.
func (s *session) remarkRules(name string) {
	db, err := s.Database(s, name)
	if err != nil || db.ClientAuth != "off" {
		return
	}
	rules, err := s.Rules(s, name)
	switch {
	case err != nil:
	case len(rules) == 0:
		s.out.line("No client can connect before there is an IP rule: pgmtls ip-rules create %s --cidr 203.0.113.7/32", clean(name))
	default:
		s.out.line("Clients need no certificate; its IP rules decide: pgmtls ip-rules %s", clean(name))
	}
}

func (a *app) disableEnhanced() *cobra.Command {
	var (
		wait    waiting
		confirm confirmation
	)
	cmd := &cobra.Command{
		Use:               "disable DB",
		Short:             "Take the publicly trusted certificate of a database away",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			name := s.args[0]
			is, err := s.EnhancedCertificate(s, name)
			if err != nil {
				return err
			}
			if is.Status != api.EnhancedDisabled {
				consequence := "Clients that verify " + is.Host + " can't connect any more; give them the private name and its root certificate first. No session ends."
				if err := s.confirm(confirm, name, consequence); err != nil {
					return err
				}
			}
			since := s.app.env.Now()
			if is, err = s.DisableEnhancedCertificate(s, name); err != nil {
				return err
			}
			waited := s.reach(wait, s.enhancedTarget(&is, api.EnhancedDisabled, since, nil))
			return after(waited, s.out.show(is, func() { s.out.enhanced(is) }))
		}),
	}
	wait.flags(cmd, "gone from every proxy")
	confirm.flag(cmd, "database")
	return cmd
}

func (a *app) renewEnhanced() *cobra.Command {
	var (
		wait        waiting
		compromised bool
	)
	cmd := &cobra.Command{
		Use:               "renew DB",
		Short:             "Replace the publicly trusted certificate of a database now",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			name := s.args[0]
			before, err := s.EnhancedCertificate(s, name)
			if err != nil {
				return err
			}
			var renewal api.Renewal
			if compromised {
				renewal.Reason = api.KeyCompromise
			}
			since := s.app.env.Now()
			is, err := s.RenewEnhancedCertificate(s, name, renewal)
			if err != nil {
				return err
			}
			waited := s.reach(wait, s.enhancedTarget(&is, "renewed", since, func(now api.EnhancedCertificate) string {
				if now.Status == api.EnhancedEnabled && now.Serial != before.Serial {
					return "renewed"
				}
				return "not renewed yet"
			}))
			return after(waited, s.out.show(is, func() { s.out.enhanced(is) }))
		}),
	}
	wait.flags(cmd, "renewed")
	setTimeout(cmd, longWait)
	cmd.Flags().BoolVar(&compromised, "key-compromise", false, "somebody else may know its key: the authority revokes it once every proxy has the new one")
	return cmd
}

func (a *app) uploadEnhanced() *cobra.Command {
	var (
		wait             waiting
		certificate, key string
		body             api.UploadedCertificate
	)
	cmd := &cobra.Command{
		Use:   "upload DB --cert FILE --key FILE",
		Short: "Use a certificate of your own for the public name of a database",
		Long: `Gives the proxies a certificate that you have, in place of the one that there is. It is checked as they will check it.
Nobody renews it: notifications come 30, 14, 3 and 1 days before its end. Upload its successor in the same way.`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			for _, part := range []struct {
				path string
				into *string
			}{{certificate, &body.Certificate}, {key, &body.PrivateKey}} {
				text, err := readFile(part.path, maxPEM/2)
				if err != nil {
					return usage(fmt.Errorf("read the certificate: %w", err))
				}
				*part.into = string(text)
			}
			since := s.app.env.Now()
			is, err := s.UploadEnhancedCertificate(s, s.args[0], body)
			if err != nil {
				return err
			}
			waited := s.reach(wait, s.enhancedTarget(&is, api.EnhancedEnabled, since, nil))
			return after(waited, s.out.show(is, func() {
				s.out.enhanced(is)
				s.remarkRules(s.args[0])
			}))
		}),
	}
	wait.flags(cmd, api.EnhancedEnabled)
	flags := cmd.Flags()
	flags.StringVar(&certificate, "cert", "", "PEM `file` with the certificate, followed by its chain")
	flags.StringVar(&key, "key", "", "PEM `file` with its private key, not encrypted")
	flags.StringVar(&body.Host, "host", "", "the public `name`; by default the first of the certificate that is no wildcard")
	for _, name := range []string{"cert", "key"} {
		_ = cmd.MarkFlagRequired(name)                      // it is there
		_ = cmd.MarkFlagFilename(name, "pem", "crt", "key") // too
	}
	return cmd
}

func (a *app) dnsRecords() *cobra.Command {
	return &cobra.Command{
		Use:               "records DB",
		Short:             "List the DNS records that you make for the public name of a database",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			records, err := s.DNSRecords(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(records, func() {
				for i, r := range records {
					if i > 0 {
						s.out.line("")
					}
					need := "recommended"
					if r.Required {
						need = "required"
					}
					s.out.line("%s %s %s", clean(r.Name), clean(r.Type), clean(or(r.Value, "<your proxies>")))
					s.out.line("  %s: %s", need, clean(r.Purpose))
					s.out.line("  %s", map[bool]string{true: "the DNS has it", false: "the DNS does not have it"}[r.Found])
				}
			})
		}),
	}
}

func (a *app) acme() *cobra.Command {
	status := &cobra.Command{
		Use:   "status",
		Short: "Show the accounts, limits and troubles of the public authorities",
		Args:  exactly(0),
		RunE: a.run(func(s *session) error {
			is, err := s.ACME(s)
			if err != nil {
				return err
			}
			return s.out.show(is, func() { s.out.acme(is) })
		}),
	}
	rollover := &cobra.Command{
		Use:   "rollover AUTHORITY",
		Short: "Give the account at a public authority another key; its URL stays",
		Args:  exactly(1),
		RunE: a.run(func(s *session) error {
			is, err := s.RollOverACME(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(is, func() { s.out.acmeAuthority(is) })
		}),
	}
	return a.client(group(&cobra.Command{
		Use:   "acme",
		Short: "Manage the public certificate authorities",
	}, status, rollover))
}

func (p *printer) acme(is api.ACME) {
	if len(is.Authorities) == 0 {
		p.line("There is no acme block in pgmtls.yaml: databases get no public certificates.")
		return
	}
	p.block(row{"zone", is.Zone}, row{"waiting", strconv.Itoa(is.Waiting)}, row{"oldest wait", moment(is.OldestWait)})
	for _, a := range is.Authorities {
		p.line("")
		p.acmeAuthority(a)
	}
}

func (p *printer) acmeAuthority(a api.ACMEAuthority) {
	left := "no limit"
	if a.OrdersLeft != nil {
		left = strconv.Itoa(*a.OrdersLeft)
	}
	p.block(row{"authority", a.Name}, row{"directory", a.Directory}, row{"account", or(a.Account, "none yet")}, row{"problem", strings.TrimSpace(a.Problem)},
		row{"reason", a.Reason}, row{"detail", a.Detail}, row{"away since", moment(a.AwaySince)}, row{"next attempt", moment(a.NextAttempt)}, row{"orders left", left})
}
