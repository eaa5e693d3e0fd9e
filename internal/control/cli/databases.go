package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

func (a *app) databases() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the databases",
		Args:  exactly(0),
		RunE:  a.run(listDatabases),
	}
	return a.client(group(&cobra.Command{
		Use:   "databases",
		Short: "Manage the databases behind the proxies",
	}, list, a.createDatabase(), a.showDatabase(), a.deleteDatabase()))
}

func listDatabases(s *session) error {
	databases, err := s.Databases(s)
	if err != nil {
		return err
	}
	return s.out.show(databases, func() {
		if len(databases) == 0 {
			s.out.line("There are no databases yet. Register one: pgmtls databases create NAME --host db.example.com")
			return
		}
		rows := [][]string{{"NAME", "SPACE", "HOST", "PROXIES", "MTLS", onlyWide + "ID"}}
		for _, d := range databases {
			rows = append(rows, []string{d.Name, d.Space, strings.Join(d.Hosts, ","), strconv.Itoa(len(d.Proxies)), or(d.MTLS, "-"), d.ID})
		}
		s.out.table(rows...)
	})
}

func (a *app) createDatabase() *cobra.Command {
	var (
		database api.NewDatabase
		proxy    api.NewProxy
	)
	cmd := &cobra.Command{
		Use:   "create NAME --host HOST",
		Short: "Register a database",
		Example: `  pgmtls databases create shop --host shop.db.example.com --host 10.0.0.7
  pgmtls databases create shop --host localhost --proxy local --policy-dir /var/lib/pgmtls/policies/shop --admin 127.0.0.1:9815`,
		Args: exactly(1),
		RunE: a.run(func(s *session) error {
			database.Name = s.args[0]
			if proxy.Name != "" {
				database.Proxies = []api.NewProxy{proxy}
			}
			created, err := s.CreateDatabase(s, database)
			if err != nil {
				return err
			}
			return s.out.show(created, func() {
				s.out.database(created)
				s.out.line("")
				if len(created.Proxies) == 0 {
					s.out.line("Next, the proxy in front of it: pgmtls proxies add %s NAME", clean(created.Name))
				}
				s.out.line("Then: pgmtls mtls create %s --wait", clean(created.Name))
			})
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&database.Hosts, "host", nil, "a `name` or IP address that clients connect to; URLs contain the first")
	flags.IntVar(&database.Port, "port", 0, "port that clients connect to (default 5432)")
	flags.StringVar(&database.Space, "space", "", "the space whose CA it uses (default \"default\")")
	flags.StringVar(&database.BackendNote, "note", "", "a description of the database")
	flags.StringVar(&proxy.Name, "proxy", "", "`name` of the first proxy")
	proxyFlags(cmd, &proxy)
	_ = cmd.MarkFlagRequired("host") // it is there
	return cmd
}

func (a *app) showDatabase() *cobra.Command {
	return &cobra.Command{
		Use:               "show DB",
		Short:             "Show a database and its pending changes",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			database, err := s.Database(s, s.args[0])
			if err != nil {
				return err
			}
			acknowledgements, err := s.Acknowledgements(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(database, func() {
				s.out.database(database)
				s.out.waiting(acknowledgements)
			})
		}),
	}
}

func (a *app) deleteDatabase() *cobra.Command {
	var confirm confirmation
	cmd := &cobra.Command{
		Use:               "delete DB",
		Short:             "Delete a database that has no mutual TLS",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			name := s.args[0]
			if err := s.confirm(confirm, name, "This deletes "+name+" and its proxies from the control plane. The proxies keep their policies."); err != nil {
				return err
			}
			if err := s.DeleteDatabase(s, name); err != nil {
				return err
			}
			if !s.app.json {
				s.out.line("%s is deleted", clean(name))
			}
			return nil
		}),
	}
	confirm.flag(cmd, "database")
	return cmd
}

// database prints a database as a block.
func (p *printer) database(d api.Database) {
	var names []string
	for _, proxy := range d.Proxies {
		names = append(names, proxy.Name)
	}
	p.block(
		row{"database", d.Name}, row{"id", d.ID}, row{"space", d.Space}, row{"hosts", strings.Join(d.Hosts, ", ")},
		row{"port", strconv.Itoa(d.Port)}, row{"note", d.BackendNote}, row{"mtls", or(d.MTLS, "none")},
		row{"generation", strconv.FormatInt(d.Generation, 10)}, row{"proxies", or(strings.Join(names, ", "), "none")},
		row{"created", moment(d.CreatedAt)}, row{"updated", moment(d.UpdatedAt)},
	)
}

// waiting prints what is not in force everywhere yet.
func (p *printer) waiting(acknowledgements api.Acknowledgements) {
	if len(acknowledgements.Waiting) == 0 {
		return
	}
	p.line("")
	rows := [][]string{{"WAITING", "STATUS", "GENERATION", "UNTIL", "FOR"}}
	for _, w := range acknowledgements.Waiting {
		until := map[string]string{api.UntilApplied: "applied", api.UntilInForce: "in force"}[w.Until]
		rows = append(rows, []string{w.Name, w.Status, strconv.FormatInt(w.Generation, 10), until, or(strings.Join(w.Proxies, ", "), "a proxy")})
	}
	p.table(rows...)
}
