package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
)

// outcome is how a driver shows its program the end of a query.
type outcome struct {
	Severity, Code, Message, Detail, Hint string
	Closed                                bool // the driver knows that the connection is gone
}

// driver runs a query with the certificate "app" until it ends. A driver of another language is a program in
// testdata/drivers.
type driver struct {
	missing func() string // what has to be installed first, empty for nothing; nil for always there
	run     func(ctx context.Context, p *proxy, dir, marker string) (outcome, error)
	// bare reports whether an outcome is what the driver makes of a bare PostgreSQL's pg_terminate_backend, if that is no FATAL
	// 57P01: some look at the end of the stream first, which comes with it.
	bare func(o outcome, detail, hint string) bool
}

var drivers = map[string]driver{
	"pgx": {nil, pgxOutcome, nil},
	"psycopg2": {debianModule("psycopg2"), scripted(python, "testdata/drivers/run_psycopg2.py"),
		// PQexec of newer libpqs gives only the last of two errors.
		func(o outcome, _, _ string) bool { return o.Code == "" && strings.Contains(o.Message, "closed") }},
	"psycopg 3": {debianModule("psycopg"), scripted(python, "testdata/drivers/run_psycopg.py"),
		// An OperationalError without fields, and with the whole of what came in its text.
		func(o outcome, detail, hint string) bool {
			return o.Code == "" && strings.HasPrefix(o.Message, "consuming input failed: terminating connection due to administrator command") &&
				strings.Contains(o.Message, detail) && strings.Contains(o.Message, hint)
		}},
	"asyncpg": {debianModule("asyncpg"), scripted(python, "testdata/drivers/run_asyncpg.py"),
		// A ConnectionDoesNotExistError, always.
		func(o outcome, _, _ string) bool { return o.Code == "08003" }},
	"node-postgres": {func() string {
		if _, err := exec.LookPath("node"); err != nil {
			return "node"
		}
		if _, err := os.Stat(filepath.Join(nodeModules, "pg")); err != nil {
			return "node-postgres: scripts/fetch-drivers.sh fetches it where npm and a registry are to be had"
		}
		return ""
	}, scripted("node", "testdata/drivers/run_node_postgres.js"), nil},
	"pgjdbc": {func() string {
		if _, err := exec.LookPath("javac"); err != nil {
			return "a JDK"
		}
		if _, err := os.Stat(pgjdbc); err != nil {
			return "Debian's libpostgresql-jdbc-java"
		}
		return ""
	}, scripted("java", "-cp", pgjdbc, "testdata/drivers/RunPgjdbc.java"), nil},
}

const (
	python      = "/usr/bin/python3" // the one that Debian's packages are for
	pgjdbc      = "/usr/share/java/postgresql.jar"
	nodeModules = "../.cache/node-postgres/node_modules"
)

// debianModule looks for a module of Python that a package of the distribution has.
func debianModule(name string) func() string {
	return func() string {
		if exec.Command(python, "-c", "import "+name).Run() != nil {
			return "Debian's python3-" + name
		}
		return ""
	}
}

// pgxOutcome asks with a parameter, so that the query runs in the extended protocol.
func pgxOutcome(ctx context.Context, p *proxy, _, marker string) (outcome, error) {
	app := filepath.Join(pki.dir, "app")
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%s user=postgres dbname=postgres sslmode=verify-full sslrootcert=%s sslcert=%s.crt sslkey=%s.key",
		p.port(), pki.root("private"), app, app))
	if err != nil {
		return outcome{}, err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "select pg_sleep($1) /* "+marker+" */", 600)
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return outcome{}, fmt.Errorf("the query ends with %v", err)
	}
	return outcome{e.Severity, e.Code, e.Message, e.Detail, e.Hint, conn.IsClosed()}, nil
}

// scripted runs a program that prints its outcome as JSON.
func scripted(name string, args ...string) func(ctx context.Context, p *proxy, dir, marker string) (outcome, error) {
	return func(ctx context.Context, p *proxy, dir, marker string) (o outcome, _ error) {
		key, _ := pem.Decode(pki.clients["app"].KeyPEM)
		der := filepath.Join(dir, "app.pk8") // pgjdbc reads no PEM
		if err := os.WriteFile(der, key.Bytes, 0o600); err != nil {
			return o, err
		}
		modules, err := filepath.Abs(nodeModules)
		if err != nil {
			return o, err
		}
		app := filepath.Join(pki.dir, "app")
		command := exec.CommandContext(ctx, name, args...)
		command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "NODE_PATH=" + modules, "SERVER_NAME=" + privateName, "PORT=" + p.port(),
			"ROOT=" + pki.root("private"), "CERT=" + app + ".crt", "KEY=" + app + ".key", "KEY_DER=" + der, "SQL=select pg_sleep(600) /* " + marker + " */"}
		var stderr strings.Builder
		command.Stderr = &stderr
		output, err := command.Output()
		if err != nil {
			return o, fmt.Errorf("%w\n%s", err, &stderr)
		}
		if err := json.Unmarshal(output, &o); err != nil {
			return o, fmt.Errorf("it prints %q: %w\n%s", output, err, &stderr)
		}
		return o, nil
	}
}

// A program that catches errors learns the cause, and that it has to connect again: it reads neither the server's 57014 for
// the cancel with which the proxy ends the query, nor a connection that only looks open.
func TestDriversReadWhyTheirQueryEnds(t *testing.T) {
	for _, c := range []struct {
		cause, detail, hint string
		options             options
		end                 func(t *testing.T, p *proxy)
	}{
		{"removed rule", "No IP rule allows the address 127.0.0.1 any more.", "", options{},
			func(t *testing.T, p *proxy) { p.edit(t, nobody) }},
		{"revoked certificate", " has been revoked.", "", options{},
			func(t *testing.T, p *proxy) {
				p.edit(t, func(next *policy) { next.Revoked = []string{pki.serial("app")} })
			}},
		{"drain", "The proxy in front of the database is shutting down.", "Connect again.", options{ExitCode: 3, Config: drained(map[string]any{"grace": "500ms"})},
			func(t *testing.T, p *proxy) { p.signal(t, syscall.SIGTERM) }},
	} {
		t.Run(c.cause, func(t *testing.T) {
			t.Parallel()
			s, p := server(t), start(t, c.options)
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			type result struct {
				outcome
				err error
			}
			results := map[string]chan result{}
			for name, d := range drivers {
				if d.missing != nil && d.missing() != "" {
					continue
				}
				dir, done := t.TempDir(), make(chan result, 1)
				results[name] = done
				go func() {
					o, err := d.run(ctx, p, dir, name+", "+c.cause)
					done <- result{o, err}
				}()
			}
			for name, done := range results {
				query := "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%" + name + ", " + c.cause + "%'"
				eventually.OK(t, 2*patience, func() error { // Java has to compile first
					select {
					case early := <-done:
						t.Fatalf("%s ends before anything has happened: %+v, %v", name, early.outcome, early.err)
					default:
					}
					if s.Query(t, query) != "1" {
						return fmt.Errorf("%s does not run its query", name)
					}
					return nil
				})
			}
			c.end(t, p)
			for _, name := range slices.Sorted(maps.Keys(drivers)) {
				t.Run(name, func(t *testing.T) {
					if results[name] == nil {
						t.Skip("this needs", drivers[name].missing())
					}
					got := <-results[name] // ctx ends it
					must.OK(t, got.err)
					if bare := drivers[name].bare; bare != nil && bare(got.outcome, c.detail, c.hint) {
						t.Log("it is what pg_terminate_backend of a bare PostgreSQL reads there")
					} else if got.Severity != "FATAL" || got.Code != "57P01" || !strings.HasPrefix(got.Message, "terminating connection due to administrator command") ||
						!strings.Contains(got.Detail, c.detail) || got.Hint != c.hint {
						t.Errorf("the program reads %+v, want FATAL 57P01 with %q and %q", got.outcome, c.detail, c.hint)
					}
					if !got.Closed {
						t.Error("the connection still looks open")
					}
					waitQuery(t, s, name+", "+c.cause, 0)
				})
			}
		})
	}
}
