package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/control/authority"
)

func (a *app) authorities() *cobra.Command {
	show := &cobra.Command{
		Use:   "show [SPACE]",
		Short: "Show the CAs of a space and the certificates that still use them",
		Long: `Shows the CAs of a space, and for each the certificates that it issued and that are let in. Every proxy of the space is asked
first who uses them, which takes up to ten seconds when one does not answer.`,
		Args:              between(0, 1),
		ValidArgsFunction: a.spaceNames(),
		RunE: a.run(func(s *session) error {
			space, err := s.space()
			if err != nil {
				return err
			}
			authorities, err := s.AskAuthorities(s, space)
			if err != nil {
				return err
			}
			return s.out.show(authorities, func() { s.out.authorities(space, authorities) })
		}),
	}
	return a.client(group(&cobra.Command{
		Use:   "ca [SPACE]",
		Short: "Manage the certificate authorities of a space",
	}, show, a.showCRL(), a.rotateCA(), a.importCA(), a.retireCA()))
}

// space is the first argument, or the only space.
func (s *session) space() (string, error) {
	if len(s.args) > 0 {
		return s.args[0], nil
	}
	spaces, err := s.Spaces(s)
	if err != nil {
		return "", err
	}
	switch len(spaces) {
	case 0:
		return "", fmt.Errorf("there is no space yet: the first database creates it, with pgmtls databases create")
	case 1:
		return spaces[0], nil
	}
	return "", usage(fmt.Errorf("there are %d spaces: name one, for example pgmtls ca show %s", len(spaces), clean(spaces[0])))
}

func (a *app) spaceNames() completion {
	return a.complete(func(s *session) ([]cobra.Completion, error) {
		if len(s.args) > 0 {
			return nil, nil
		}
		return s.Spaces(s)
	})
}

func (p *printer) authorities(space string, authorities []api.Authority) {
	if len(authorities) == 0 {
		p.line("Space %s has no CA yet. The first pgmtls mtls create creates one. To import your own: pgmtls ca import %[1]s --cert FILE --key FILE", clean(space))
		return
	}
	for i, ca := range authorities {
		if i > 0 {
			p.line("")
		}
		p.authority(ca)
		if len(ca.Users) == 0 {
			continue
		}
		p.line("")
		var all []string
		for _, user := range ca.Users {
			all = append(all, user.Certificate)
		}
		id := p.ids(all)
		rows := [][]string{{"DATABASE", "CERTIFICATE", "NAME", "SESSIONS", "LAST SEEN", "EXPIRES"}}
		for _, user := range ca.Users {
			if user.Server {
				rows = append(rows, []string{user.Database, "server", "-", "-", "-", or(p.moment(user.ExpiresAt), "-")})
				continue
			}
			rows = append(rows, []string{user.Database, id(user.Certificate), user.Name, strconv.Itoa(user.Sessions),
				or(p.moment(user.LastSeen), "-"), or(p.moment(user.ExpiresAt), "-")})
		}
		p.table(rows...)
	}
}

func (p *printer) authority(ca api.Authority) {
	origin := ""
	if ca.External {
		origin = "imported"
	}
	p.block(
		row{"ca", ca.ID}, row{"space", ca.Space}, row{"subject", ca.Subject}, row{"state", ca.State}, row{"origin", origin},
		row{"valid from", moment(ca.NotBefore)}, row{"valid until", moment(ca.NotAfter)},
		row{"revoked", strconv.Itoa(ca.Revoked)},
		row{"in use by", count(len(ca.Users), "certificate")}, row{"as of", moment(ca.AsOf)},
	)
	for _, silent := range ca.Unanswered {
		p.line("The use at proxy %s of %s is that of its last report: %s", clean(silent.Proxy), clean(silent.Database), clean(silent.Error))
	}
}

func (a *app) showCRL() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "crl [SPACE]",
		Short: "Print the signed revocation list of a CA, for third parties that trust it",
		Long: `Prints the revocation list (RFC 5280, PEM) of the space's CA that signs, or of the one with --id. It has every certificate of
that CA that is revoked and has not expired. Proxies get theirs by themselves; this is for others that trust the CA. Get it
again before its next update.`,
		Args:              between(0, 1),
		ValidArgsFunction: a.spaceNames(),
		RunE: a.run(func(s *session) error {
			space, err := s.space()
			if err != nil {
				return err
			}
			which := id
			if which == "" {
				which, err = s.activeCA(space)
			} else {
				which, err = s.wholeAuthority(space, which)
			}
			if err != nil {
				return err
			}
			crl, err := s.CRL(s, space, which)
			if err != nil {
				return err
			}
			return s.out.show(crl, func() { s.out.line("%s", strings.TrimSuffix(crl.CRL, "\n")) })
		}),
	}
	cmd.Flags().StringVar(&id, "id", "", "the CA's `id`; left out: of the one that signs")
	a.ids(cmd, func(s *session) ([]cobra.Completion, error) {
		space, err := s.space()
		if err != nil {
			return nil, err
		}
		return s.authorityIDs(space, api.ActiveCA, api.RetiringCA)
	})
	return cmd
}

// activeCA is the id of the CA that signs for a space.
func (s *session) activeCA(space string) (string, error) {
	authorities, err := s.Authorities(s, space)
	if err != nil {
		return "", err
	}
	for _, ca := range authorities {
		if ca.State == api.ActiveCA {
			return ca.ID, nil
		}
	}
	return "", fmt.Errorf("space %s has no CA that signs", clean(space))
}

// authorityIDs are the ids of a space's CAs that are in one of the states.
func (s *session) authorityIDs(space string, states ...string) ([]cobra.Completion, error) {
	authorities, err := s.Authorities(s, space)
	var found []cobra.Completion
	for _, ca := range authorities {
		if slices.Contains(states, ca.State) {
			found = append(found, cobra.CompletionWithDesc(ca.ID, clean(ca.Subject)))
		}
	}
	return found, err
}

func (a *app) rotateCA() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate SPACE",
		Short: "Create a new signing CA; the previous one stays trusted",
		Long: `Creates a new CA that signs from now on. The previous one stays trusted until it is retired, so no client is cut off. Give the
clients the new root certificate and new certificates meanwhile; pgmtls ca show lists those that still use the old one.`,
		Args:              exactly(1),
		ValidArgsFunction: a.spaceNames(),
		RunE: a.run(func(s *session) error {
			ca, err := s.RotateCA(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(ca, func() { s.out.newAuthority(ca) })
		}),
	}
}

func (p *printer) newAuthority(ca api.Authority) {
	p.authority(ca)
	p.line("")
	p.line("Certificates that still use the previous CA: pgmtls ca show %s", clean(ca.Space))
}

func (a *app) importCA() *cobra.Command {
	var certificate, key string
	cmd := &cobra.Command{
		Use:   "import SPACE --cert FILE --key FILE",
		Short: "Import a CA or an intermediate as the signing CA; the previous one stays trusted",
		Args:  exactly(1),
		RunE: a.run(func(s *session) error {
			var ca api.ImportCA
			for _, part := range []struct {
				path string
				into *string
			}{{certificate, &ca.Certificate}, {key, &ca.PrivateKey}} {
				text, err := readFile(part.path, maxPEM/2)
				if err != nil {
					return usage(fmt.Errorf("read the CA: %w", err))
				}
				*part.into = string(text)
			}
			if _, err := authority.ParseCA([]byte(ca.Certificate), []byte(ca.PrivateKey)); err != nil {
				return usage(fmt.Errorf("this CA can't be used: %w", err))
			}
			imported, err := s.ImportCA(s, s.args[0], ca)
			if err != nil {
				return err
			}
			return s.out.show(imported, func() { s.out.newAuthority(imported) })
		}),
		ValidArgsFunction: a.spaceNames(),
	}
	cmd.Flags().StringVar(&certificate, "cert", "", "PEM `file` with the CA's certificate, followed by its chain")
	cmd.Flags().StringVar(&key, "key", "", "PEM `file` with its private key, not encrypted")
	for _, name := range []string{"cert", "key"} {
		_ = cmd.MarkFlagRequired(name)                      // it is there
		_ = cmd.MarkFlagFilename(name, "pem", "crt", "key") // too
	}
	return cmd
}

func (a *app) retireCA() *cobra.Command {
	var (
		retirement apiclient.Retirement
		confirm    confirmation
	)
	cmd := &cobra.Command{
		Use:   "retire SPACE --id ID",
		Short: "Stop trusting a CA; with --force even if its certificates are in use",
		Long: `Stops trusting a CA. Every proxy of the space is asked first who uses its certificates, which takes up to ten seconds when one
does not answer. The command is refused while a certificate was not replaced by its successor, and when a proxy can't be asked.
With --force no proxy is asked: clients with certificates of the CA are cut off.`,
		Args:              exactly(1),
		ValidArgsFunction: a.spaceNames(),
		RunE: a.run(func(s *session) error {
			retirement.Space = s.args[0]
			var err error
			if retirement.ID, err = s.wholeAuthority(s.args[0], retirement.ID); err != nil {
				return err
			}
			if retirement.Force {
				consequence := "This cuts off every client in space " + s.args[0] + " with a certificate of this CA: its sessions end, and it can't connect any more."
				if err := s.confirm(confirm, s.args[0], consequence); err != nil {
					return err
				}
			}
			ca, err := s.RetireCA(s, retirement)
			if isID(err, api.Conflict) && !retirement.Force {
				return fmt.Errorf("%w\nTo see the clients that use it: pgmtls ca show %s. To cut them off: --force", s.advise(err), clean(s.args[0]))
			}
			if err != nil {
				return err
			}
			return s.out.show(ca, func() { s.out.authority(ca) })
		}),
	}
	cmd.Flags().StringVar(&retirement.ID, "id", "", "the CA's `id`")
	_ = cmd.MarkFlagRequired("id") // it is there
	cmd.Flags().BoolVar(&retirement.Force, "force", false, "even if its certificates are in use, or a proxy can't be asked")
	confirm.flag(cmd, "space")
	a.ids(cmd, func(s *session) ([]cobra.Completion, error) {
		return s.authorityIDs(s.args[0], api.RetiringCA)
	})
	return cmd
}
