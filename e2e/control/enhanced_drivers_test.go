package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// urlDriver asks with each of the URLs, and returns what a query answered or why there is none. Bundle has the roots of
// the machine, so to say.
type urlDriver func(t *testing.T, bundle string, urls []string) []string

// What a driver of the public name reads.
const (
	answered = "answered"
	bare     = "requires a valid client certificate"
)

// urlDrivers are the drivers with what comes of sslmode=verify-full for each way to say which roots verify the server:
// not at all, with the file, and with system. It is what docs/clients.md says.
var urlDrivers = []struct {
	name                  string
	ask                   urlDriver
	alone, bundle, system string
}{
	{"psql 15", psqlURLs(0), `root certificate file "/nonexistent/.postgresql/root.crt" does not exist`, answered, `root certificate file "system" does not exist`},
	{"psql, libpq 18", psqlURLs(18), `root certificate file "/nonexistent/.postgresql/root.crt" does not exist`, answered, answered},
	{"pgx", pgxURLs, answered, answered, answered},
	{"node-postgres", programURLs([]string{"node"}, "testdata/drivers/connect_url.js"), answered, answered, "no such file or directory, open 'system'"},
	{"pgjdbc", pgjdbcURLs, "Could not open SSL root certificate file", answered, "Could not open SSL root certificate file system"},
	{"psycopg2", programURLs([]string{python}, "testdata/drivers/connect_url.py", "psycopg2"), "does not exist", answered, `root certificate file "system" does not exist`},
	{"psycopg 3", programURLs([]string{python}, "testdata/drivers/connect_url.py", "psycopg"), "does not exist", answered, `root certificate file "system" does not exist`},
	{"asyncpg", programURLs([]string{python}, "testdata/drivers/connect_url.py", "asyncpg"), "root.crt", answered, "No such file or directory"},
}

// Each driver is given the public name in a URL, with and without a client certificate.
func TestDriversNeedWhatTheDocumentsSayForPublicRoots(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.plane(t, publicZone, "database", "default")
	v := p.download(t, p.enable(t, "shop"), "shop", "")
	p.letIn(t, "shop")
	p.do(t, "enhanced-certificates", "enable", "shop", "--wait", "--timeout", "2m")
	var printed struct{ URL string }
	p.read(t, &printed, "url", "shop", "--user", "postgres", "--dbname", "postgres", "--roots", s.Bundle)
	suffix := "?sslmode=verify-full&sslrootcert=" + s.Bundle
	if !strings.HasSuffix(printed.URL, suffix) || !strings.Contains(printed.URL, "@"+publicShop+":") {
		t.Fatalf("the URL is %s", printed.URL)
	}
	alone := strings.TrimSuffix(printed.URL, suffix) + "?sslmode=verify-full"
	for _, d := range urlDrivers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			key := v.files + "postgresql.key"
			if d.name == "pgjdbc" {
				key = filepath.Join(t.TempDir(), "postgresql.pk8")
				openssl(t, "pkcs8", "-topk8", "-nocrypt", "-in", v.files+"postgresql.key", "-outform", "DER", "-out", key)
			}
			files := "&sslcert=" + v.files + "postgresql.crt&sslkey=" + key
			urls := []string{alone + files, printed.URL + files, alone + "&sslrootcert=system" + files, printed.URL,
				strings.Replace(printed.URL, suffix, "?sslmode=verify-full&sslrootcert="+v.files+"root.crt", 1) + files}
			got := d.ask(t, s.Bundle, urls)
			if len(got) != len(urls) {
				t.Fatalf("it says %q", got)
			}
			for i, want := range []string{d.alone, d.bundle, d.system, bare} {
				if !strings.Contains(got[i], want) {
					t.Errorf("%s reads %q, want %q", urls[i], got[i], want)
				}
			}
			if got[4] == answered {
				t.Errorf("the public name was verified by the root of the space")
			}
		})
	}
}

// psqlURLs is psql with the libpq of a version; 0: the distribution's. It finds the system's roots in the bundle.
func psqlURLs(version int) urlDriver {
	return func(t *testing.T, bundle string, urls []string) (said []string) {
		client := pgtest.Client{Env: []string{"SSL_CERT_FILE=" + bundle, "PGHOSTADDR=127.0.0.1"}}
		if version > 0 {
			client.LibDir = pgtest.Embedded(t, version).LibDir
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for _, url := range urls {
			result, err := client.Run(ctx, url, "-Atc", "select 'answered'")
			if err != nil {
				t.Fatal(err)
			}
			said = append(said, strings.TrimSpace(result.Stdout+result.Stderr))
		}
		return said
	}
}

// pgxURLs runs the test program itself, as [connectByPGX]: a process reads the system's roots once.
func pgxURLs(t *testing.T, bundle string, urls []string) []string {
	return programURLs([]string{"env", "SSL_CERT_FILE=" + bundle, asPGX + "=1", os.Args[0]})(t, bundle, urls)
}

// asPGX is the variable that makes the test program a client.
const asPGX = "E2E_CONTROL_CONNECT_BY_PGX"

// connectByPGX connects by each of the URLs, and prints a line for each. Names are of this machine.
func connectByPGX(urls []string) {
	ask := func(url string) string {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		config, err := pgx.ParseConfig(url)
		if err != nil {
			return err.Error()
		}
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
		conn, err := pgx.ConnectConfig(ctx, config)
		if e, ok := errors.AsType[*pgconn.PgError](err); ok {
			return e.Message
		}
		if err != nil {
			return err.Error()
		}
		defer conn.Close(ctx)
		var text string
		if err := conn.QueryRow(ctx, "select 'answered'").Scan(&text); err != nil {
			return err.Error()
		}
		return text
	}
	for _, url := range urls {
		fmt.Println(strings.Join(strings.Fields(ask(url)), " "))
	}
}

// pgjdbcURLs finds the server by the JVM's own hosts file. The driver refuses a user before the host.
func pgjdbcURLs(t *testing.T, bundle string, urls []string) []string {
	if _, err := os.Stat(pgjdbc); err != nil {
		t.Skip("Debian's libpostgresql-jdbc-java is not here")
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	writeFile(t, hosts, "127.0.0.1 "+publicShop+"\n")
	var translated []string
	for _, url := range urls {
		translated = append(translated, "jdbc:postgresql://"+strings.TrimPrefix(url, "postgres://postgres@")+"&user=postgres")
	}
	return programURLs([]string{"java", "-Djdk.net.hosts.file=" + hosts, "-cp", pgjdbc}, "testdata/drivers/Connect.java")(t, bundle, translated)
}

// programURLs is a program that prints a line for each URL.
func programURLs(words []string, more ...string) urlDriver {
	words = slices.Concat(words, more)
	return func(t *testing.T, bundle string, urls []string) []string {
		t.Helper()
		if _, err := exec.LookPath(words[0]); err != nil {
			t.Skipf("there is no %s here", words[0])
		}
		if words[0] == python && exec.Command(python, "-c", "import "+words[2]).Run() != nil {
			t.Skipf("Debian's python3-%s is not here", words[2])
		}
		modules, err := filepath.Abs(nodeModules)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(modules, "pg")); err != nil && words[0] == "node" {
			t.Skip("node-postgres is not here: scripts/fetch-drivers.sh fetches it")
		}
		environment := []string{"NODE_PATH=" + modules, "NODE_EXTRA_CA_CERTS=" + bundle, "HOME=/nonexistent"}
		stdout, stderr, code := program(t, "env", slices.Concat(environment, words, urls)...)
		if code != 0 {
			t.Fatalf("%s ended with %d: %s%s", words[0], code, stdout, stderr)
		}
		return strings.Split(strings.TrimSpace(stdout), "\n")
	}
}
