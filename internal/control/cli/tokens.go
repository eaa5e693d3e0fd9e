package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

func (a *app) tokens() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without their secrets",
		Args:  exactly(0),
		RunE: a.run(func(s *session) error {
			tokens, err := s.Tokens(s)
			if err != nil {
				return err
			}
			return s.out.show(tokens, func() { s.out.tokens(tokens) })
		}),
	}
	return a.client(group(&cobra.Command{
		Use:   "tokens",
		Short: "Manage the tokens of the API",
	}, list, a.createToken(), a.revokeToken()))
}

func (p *printer) tokens(tokens []api.Token) {
	rows := [][]string{{"ID", "NAME", "SCOPE", onlyWide + "CREATED", "EXPIRES", "LAST USED"}}
	for _, t := range tokens {
		rows = append(rows, []string{t.ID, t.Name, scopeOf(t), moment(t.CreatedAt), or(p.moment(t.ExpiresAt), "never"), or(p.moment(t.LastUsedAt), "never")})
	}
	p.table(rows...)
}

// scopeOf is a token's scope with what it is limited to.
func scopeOf(t api.Token) string {
	switch t.Scope {
	case api.ScopeDatabase:
		return "database " + or(t.DatabaseName, t.Database)
	case api.ScopeAgent:
		return "agent of " + or(t.DatabaseName, t.Database) + "/" + t.Proxy
	}
	return t.Scope
}

func (a *app) createToken() *cobra.Command {
	var (
		token   api.NewToken
		expires string
	)
	cmd := &cobra.Command{
		Use:   "create NAME --scope SCOPE",
		Short: "Create a token; it is shown only once",
		Long: `Creates a token. Its scope is one of

  all        everything
  read       reading everything but private keys
  database   everything about the one database that --database names

Tokens for agents are created with pgmtls agents create.`,
		Example: `  pgmtls tokens create terraform --scope database --database shop --expires 365d
  umask 077; pgmtls tokens create grafana --scope read > grafana.token`,
		Args: exactly(1),
		RunE: a.run(func(s *session) error {
			if (token.Scope == api.ScopeDatabase) != (token.Database != "") {
				return usage(fmt.Errorf("--scope database and --database NAME must be used together"))
			}
			if expires != "" {
				var err error
				if token.ExpiresAt, err = parseUntil(expires, s.app.env.Now()); err != nil {
					return err
				}
			}
			token.Name = s.args[0]
			created, err := s.CreateToken(s, token)
			if err != nil {
				return err
			}
			// The token alone is on standard output, so that it can go into a file.
			return s.out.show(created, func() {
				s.app.env.remark("Token %s of scope %s, shown only once:\n", clean(created.Name), clean(scopeOf(created)))
				s.out.line("%s", clean(created.Secret))
			})
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&token.Scope, "scope", "", "all, read or database")
	flags.StringVar(&token.Database, "database", "", "the `database`, with --scope database")
	flags.StringVar(&expires, "expires", "", "`when` it expires: 12h, 365d, 2027-01-31 or a time in RFC 3339")
	_ = cmd.MarkFlagRequired("scope") // it is there
	choices(cmd, "scope", api.ScopeAll, api.ScopeRead, api.ScopeDatabase)
	a.databaseFlag(cmd)
	return cmd
}

// databaseFlag completes --database.
func (a *app) databaseFlag(cmd *cobra.Command) {
	if err := cmd.RegisterFlagCompletionFunc("database", a.complete(func(s *session) ([]cobra.Completion, error) {
		s.args = nil
		return databaseThenProxy(s)
	})); err != nil {
		panic(err) // the flag is not there: the program is wrong
	}
}

func (a *app) revokeToken() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke a token at once",
		Args:  exactly(1),
		ValidArgsFunction: a.complete(func(s *session) ([]cobra.Completion, error) {
			tokens, err := s.Tokens(s)
			var found []cobra.Completion
			for _, token := range tokens {
				found = append(found, cobra.CompletionWithDesc(token.ID, clean(token.Name)))
			}
			return found, err
		}),
		RunE: a.run(func(s *session) error {
			if err := s.RevokeToken(s, s.args[0]); err != nil {
				return err
			}
			if !s.app.json {
				s.out.line("%s is revoked", clean(s.args[0]))
			}
			return nil
		}),
	}
}
