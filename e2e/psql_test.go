package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// postgres is the server of all tests that need no other: reached by its unix socket, by TCP, and by TLS with
// [certificates.backend]. It trusts everyone but these: the user "scram" has to give [canaryPassword], and "proxied"
// comes by TLS only, with a certificate of the backend's CA.
var postgres = pgtest.Shared{Options: pgtest.Options{
	TCP: true,
	HBA: `local all scram scram-sha-256
host all scram all scram-sha-256
hostssl all proxied all cert
host all proxied all reject
local all all trust
host all all all trust
`,
}}

// server is the package's PostgreSQL, with its roles.
func server(t testing.TB) *pgtest.Server {
	t.Helper()
	s := postgres.Server(t)
	s.Query(t, `do $$ begin
		perform pg_advisory_xact_lock(1);
		if not exists (select from pg_roles where rolname = 'scram') then
			create role scram login password '`+canaryPassword+`';
			create role proxied login;
		end if;
	end $$`)
	return s
}

// defaultConninfo logs in as it should be done: everything is verified, and the client has a certificate. What a test
// adds behind it wins.
func (p *proxy) defaultConninfo() string {
	return fmt.Sprintf("host=%s hostaddr=127.0.0.1 port=%s user=postgres dbname=postgres connect_timeout=10 sslmode=verify-full sslrootcert=%s %s",
		privateName, p.port(), pki.root("private"), clientCertificate("app"))
}

// clientCertificate is the part of a connection string that names a client certificate of [pki]; "" is none.
func clientCertificate(name string) string {
	if name == "" {
		// Files that don't exist: libpq then sends no certificate. Empty would mean the default files.
		return "sslcert=/nonexistent/crt sslkey=/nonexistent/key"
	}
	path := filepath.Join(pki.dir, name)
	return "sslcert=" + path + ".crt sslkey=" + path + ".key"
}

// psqlEnv plants secrets. The options of the startup packet are a setting that PostgreSQL takes for an extension's.
var psqlEnv = []string{"PGPASSWORD=" + canaryPassword, "PGOPTIONS=-c e2e.canary=" + canaryOptions}

// psql runs psql through the proxy to its end. Conninfo is added to [proxy.defaultConninfo].
func (p *proxy) psql(t testing.TB, conninfo string, args ...string) pgtest.Result {
	t.Helper()
	return p.run(t, pgtest.Client{}, conninfo, args...)
}

// run is [proxy.psql] with a client of the test's choice.
func (p *proxy) run(t testing.TB, client pgtest.Client, conninfo string, args ...string) pgtest.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	client.Env = append(client.Env, psqlEnv...)
	result, err := client.Run(ctx, append([]string{p.defaultConninfo() + " " + conninfo, "-At"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// begin starts psql for tests that send it signals. It is killed at the test's end.
func (p *proxy) begin(t testing.TB, client pgtest.Client, conninfo string, args ...string) *exec.Cmd {
	t.Helper()
	client.Env = append(client.Env, psqlEnv...)
	command, err := client.Command(t.Context(), append([]string{p.defaultConninfo() + " " + conninfo, "-At"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return command
}

// querySQL is a query with a canary, and its answer.
const querySQL, queryAnswer = "select 'answered' /* " + canarySQL + " */", "answered\n"

// succeeds runs a query through the proxy and fails the test if it isn't answered.
func (p *proxy) succeeds(t testing.TB, conninfo string) {
	t.Helper()
	mustAnswer(t, p.psql(t, conninfo, "-c", querySQL))
}

func mustAnswer(t testing.TB, result pgtest.Result) {
	t.Helper()
	if result.ExitCode != 0 || result.Stdout != queryAnswer {
		t.Fatalf("psql ended with %d and printed %q %s", result.ExitCode, result.Stdout, result.Stderr)
	}
}

// refused runs psql, which must fail to connect, and gives what it printed as [spoken] with the connection ids.
func (p *proxy) refused(t testing.TB, conninfo string) (text string, ids []string) {
	t.Helper()
	result := p.psql(t, conninfo, "-c", querySQL)
	if result.ExitCode != 2 || result.Stdout != "" {
		t.Fatalf("psql ended with %d and printed %q %s", result.ExitCode, result.Stdout, result.Stderr)
	}
	return spoken(result.Stderr)
}

var (
	connectionID = regexp.MustCompile(`\(connection ([0-9a-z]{13})\)`)
	whereFailed  = regexp.MustCompile(`(psql: error: )?connection to server at .* port [0-9]+ failed: `)
)

// spoken is an error of psql's without what changes from run to run: the place and the connection ids, which come
// beside.
func spoken(stderr string) (text string, ids []string) {
	for _, match := range connectionID.FindAllStringSubmatch(stderr, -1) {
		ids = append(ids, match[1])
	}
	text = whereFailed.ReplaceAllString(stderr, "")
	return strings.TrimSpace(connectionID.ReplaceAllString(text, "(connection ID)")), ids
}

// waitQuery waits until as many sessions as wanted run a query that contains the text.
func waitQuery(t testing.TB, s *pgtest.Server, text string, want int) {
	t.Helper()
	query := fmt.Sprintf("select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%%%s%%'", text)
	eventually.OK(t, patience, func() error {
		if got := s.Query(t, query); got != fmt.Sprint(want) {
			return fmt.Errorf("%s sessions run %q, want %d", got, text, want)
		}
		return nil
	})
}
