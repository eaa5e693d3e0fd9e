package cli

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

// connection is what `pgmtls url` prints as JSON: the API's answer, with the files in it.
type connection struct {
	api.Connection
	DatabaseURL string            `json:"database_url"` // with the files: for libpq and its kin, pgx and node-postgres
	Env         map[string]string `json:"env"`
}

func (a *app) url() *cobra.Command {
	var (
		login       apiclient.Login
		verify      bool
		prefix, dir string
	)
	cmd := &cobra.Command{
		Use:   "url DB",
		Short: "Print how to connect: DATABASE_URL, environment variables for the files, a JDBC URL",
		Long: `Prints how clients connect. The files are those written by certificates download; use the same --dir and --prefix.
The first line is all that most programs need. The client verifies the server's certificate and name, unless you say
--verify-full=false, for a name that does not resolve where the client is.

Once the database's enhanced certificate is Enabled, the URL has the public name, and clients
verify it by the roots of --roots: bundle, the file /etc/ssl/certs/ca-certificates.crt of most Linux
systems; system, for libpq 16 and later and pgx; none, for drivers that have roots of their own;
or the path of another bundle. The previous URL stays valid.`,
		Example: `  pgmtls url shop --user app --dbname shop --dir /etc/app
  pgmtls url shop --user app --dbname shop | head -1 >> .env
  pgmtls url shop --roots system
  eval "$(pgmtls url shop | grep ^export)"               # the files, for what has a URL already`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			login.SSLMode = api.SSLRequire
			if verify || login.Roots != "" {
				login.SSLMode = api.SSLVerifyFull
			}
			found, err := s.Connection(s, s.args[0], login)
			if err == nil && found.Public && login.SSLMode != api.SSLVerifyFull {
				login.SSLMode = api.SSLVerifyFull // a public name is there to be verified
				found, err = s.Connection(s, s.args[0], login)
			}
			if err != nil {
				return err
			}
			at, err := filepath.Abs(dir)
			if err != nil {
				return fmt.Errorf("find %s: %w", dir, err)
			}
			files := fetched{
				Certificate: filepath.Join(at, prefix+"postgresql.crt"),
				Key:         filepath.Join(at, prefix+"postgresql.key"),
				Root:        filepath.Join(at, prefix+"root.crt"),
			}
			if found.Public {
				files.Root = "" // it is in the URL
			}
			java := files
			java.Key = filepath.Join(at, prefix+"postgresql.pk8")
			if !found.ClientCertificate {
				files.Certificate, files.Key, java.Certificate, java.Key = "", "", "", ""
			}
			if parameters := jdbcFiles(java); parameters != "" {
				found.JDBC = join(found.JDBC, parameters)
			}
			result := connection{found, found.URL, map[string]string{}}
			if parameters := libpqFiles(files); parameters != "" {
				result.DatabaseURL = join(found.URL, parameters)
			}
			for _, v := range variables(files) {
				result.Env[v.name] = v.value
			}
			return s.out.show(result, func() {
				s.out.line("DATABASE_URL='%s'", clean(result.DatabaseURL)) // a quote would be escaped in it
				s.out.line("")
				if len(result.Env) > 0 {
					s.out.exports(files)
					s.out.line("")
				}
				s.out.line("%s", clean(found.JDBC))
				if found.PreviousURL != "" {
					s.out.line("")
					s.out.line("The previous URL stays valid: %s", clean(found.PreviousURL))
				}
			})
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&verify, "verify-full", true, "verify the server's certificate and name")
	flags.StringVar(&login.Roots, "roots", "", "`roots` of the public certificate: bundle, system, none or a path")
	flags.StringVar(&login.User, "user", "", "`role` of PostgreSQL")
	flags.StringVar(&login.DBName, "dbname", "", "`database` of PostgreSQL")
	flags.StringVar(&prefix, "prefix", "", "prefix of the file names")
	flags.StringVar(&dir, "dir", ".", "the `directory` of the files")
	_ = cmd.MarkFlagDirname("dir") // it is there
	return a.client(cmd)
}

// variables are those of libpq: PostgreSQL's documentation, section 32.15. Those without a file are left out.
func variables(files fetched) []row {
	return slices.DeleteFunc([]row{{"PGSSLCERT", files.Certificate}, {"PGSSLKEY", files.Key}, {"PGSSLROOTCERT", files.Root}},
		func(r row) bool { return r.value == "" })
}

// exports prints the lines that a shell takes.
func (p *printer) exports(files fetched) {
	for _, v := range variables(files) {
		p.line("export %s=%s", v.name, quote(v.value))
	}
}

// quote makes one word of a POSIX shell.
func quote(text string) string {
	ordinary := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,@%", r)
	}
	if text != "" && strings.Trim(strings.Map(func(r rune) rune {
		if ordinary(r) {
			return ' '
		}
		return 'x'
	}, text), " ") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// libpqFiles are the parameters of libpq. Those without a file are left out.
func libpqFiles(files fetched) string {
	return parameters(map[string]string{"sslcert": files.Certificate, "sslkey": files.Key, "sslrootcert": files.Root})
}

// jdbcFiles are the parameters of the JDBC driver. Those without a file are left out.
func jdbcFiles(files fetched) string {
	named := map[string]string{"sslkey": files.Key, "sslrootcert": files.Root}
	if !strings.HasSuffix(files.Key, ".p12") {
		named["sslcert"] = files.Certificate
	}
	return parameters(named)
}

// parameters encodes those that have a value. A slash needs no escape there, and people read this. %20 is a space to
// everybody, a plus to some.
func parameters(named map[string]string) string {
	query := url.Values{}
	for name, value := range named {
		if value != "" {
			query.Set(name, value)
		}
	}
	return strings.NewReplacer("%2F", "/", "+", "%20").Replace(query.Encode())
}

func join(url, parameters string) string {
	if strings.Contains(url, "?") {
		return url + "&" + parameters
	}
	return url + "?" + parameters
}
