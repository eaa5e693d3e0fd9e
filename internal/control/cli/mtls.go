package cli

import (
	"context"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

func (a *app) mtls() *cobra.Command {
	status := &cobra.Command{
		Use:               "status DB",
		Short:             "Show the state of mutual TLS of a database",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			endpoint, err := s.TLSEndpoint(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(endpoint, func() { s.out.endpoint(endpoint) })
		}),
	}
	return a.client(group(&cobra.Command{
		Use:   "mtls DB",
		Short: "Manage mutual TLS of a database",
	}, status, a.createMTLS(), a.destroyMTLS()))
}

// endpoint prints mutual TLS as a block, as Heroku's clients do.
func (p *printer) endpoint(endpoint api.TLSEndpoint) {
	p.block(row{"addon", endpoint.Addon}, row{"app", endpoint.App}, row{"status", endpoint.Status}, row{"enabled by", endpoint.EnabledBy})
}

func (a *app) createMTLS() *cobra.Command {
	var wait waiting
	cmd := &cobra.Command{
		Use:   "create DB",
		Short: "Create mutual TLS for a database: the space's CA, a server certificate and a first client certificate",
		Long: `Creates mutual TLS for a database: the space's CA if there is none, the database's server certificate and a first
client certificate. No client can connect until there is also an IP rule. With --wait, it is no error if the database has
mutual TLS already, or is about to get it.`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			since := s.app.env.Now()
			endpoint, err := s.CreateTLSEndpoint(s, s.args[0])
			if wait.wanted && isID(err, api.Conflict) {
				if endpoint, err = s.TLSEndpoint(s, s.args[0]); err == nil {
					s.note("%s already has mutual TLS", clean(endpoint.Addon))
				}
			}
			if err != nil {
				return err
			}
			waited := s.reach(wait, target{
				database: s.args[0], kind: api.WaitingTLSEndpoint, name: endpoint.Addon, want: api.Operational, since: since,
				state: func(ctx context.Context) (string, error) {
					now, err := s.TLSEndpoint(ctx, s.args[0])
					if err == nil {
						endpoint = now
					}
					return now.Status, err
				},
			})
			return after(waited, s.out.show(endpoint, func() {
				s.out.endpoint(endpoint)
				s.out.line("")
				s.out.line("Allow a network:     pgmtls ip-rules create %s --cidr 203.0.113.7/32", clean(endpoint.Addon))
				s.out.line("Get the certificate: pgmtls certificates download %s", clean(endpoint.Addon))
			}))
		}),
	}
	wait.flags(cmd, api.Operational)
	return cmd
}

func (a *app) destroyMTLS() *cobra.Command {
	var (
		wait    waiting
		confirm confirmation
	)
	cmd := &cobra.Command{
		Use:               "destroy DB",
		Short:             "Destroy mutual TLS with all IP rules and certificates, and end every session",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			name := s.args[0]
			consequence := "This revokes every client certificate of " + name + ", deletes its IP rules and ends every session. No client can connect any more."
			if err := s.confirm(confirm, name, consequence); err != nil {
				return err
			}
			since := s.app.env.Now()
			endpoint, err := s.DeleteTLSEndpoint(s, name)
			if err != nil {
				return err
			}
			waited := s.reach(wait, target{
				database: name, kind: api.WaitingTLSEndpoint, name: endpoint.Addon, want: "gone", gone: true, since: since,
				state: func(ctx context.Context) (string, error) {
					now, err := s.TLSEndpoint(ctx, name)
					return now.Status, err
				},
			})
			if wait.wanted && waited == nil && !s.app.json {
				return nil // it is said already that it is gone
			}
			return after(waited, s.out.show(endpoint, func() { s.out.endpoint(endpoint) }))
		}),
	}
	wait.flags(cmd, "gone on every proxy")
	confirm.flag(cmd, "database")
	return cmd
}

// after returns the first error of two things that were both done.
func after(one, other error) error {
	if one != nil {
		return one
	}
	return other
}
