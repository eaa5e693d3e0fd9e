package control

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgmtls-proxy/internal/testkit/acmetest"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/pgtest"
	"pgmtls-proxy/internal/testkit/testpki"
)

// issuing is a daemon that gets certificates of a real authority, which proves names by a real name server.
type issuing struct {
	*plane
	bundle string // a file with the root of the authority, and nothing else
	dns    *acmetest.DNS
	faults *acmetest.Faults
}

func newIssuing(t *testing.T) *issuing {
	t.Helper()
	s := newSite(t, nil)
	return &issuing{plane: s.plane(t, "example.test", "opaque", "default"), bundle: s.Bundle, dns: s.dns, faults: s.faults}
}

// host is the public name of a database.
func (i *issuing) host(t *testing.T, database string) string {
	t.Helper()
	var is struct{ Status, Host string }
	if i.read(t, &is, "enhanced-certificates", "status", database); is.Status != "Enabled" {
		t.Fatalf("%s is %+v", database, is)
	}
	return is.Host
}

// public is how a client connects by the public name, with a bundle that knows only the authority's root. More is added.
func (i *issuing) public(f *front, host, more string) string {
	return fmt.Sprintf("host=%s hostaddr=127.0.0.1 port=%s user=postgres dbname=postgres connect_timeout=20 sslmode=verify-full sslrootcert=%s %s", host, f.Port, i.bundle, more)
}

// answers wants psql to be served; refuses wants it to fail with the words.
func answers(t *testing.T, client pgtest.Client, conninfo string) {
	t.Helper()
	if result, err := client.Run(t.Context(), conninfo, "-Atc", "select 'answered'"); err != nil || result.Stdout != "answered\n" {
		t.Errorf("psql %s: %v, %+v", conninfo, err, result)
	}
}

func refuses(t *testing.T, conninfo, words string) {
	t.Helper()
	if result, err := (pgtest.Client{}).Run(t.Context(), conninfo, "-Atc", "select 'answered'"); err != nil || result.ExitCode != 2 || !strings.Contains(result.Stderr, words) {
		t.Errorf("psql %s: %v, %+v\nwant %q", conninfo, err, result, words)
	}
}

// withCertificate is the part of a connection string that has a client certificate.
func (v visitor) withCertificate() string {
	return "sslcert=" + v.files + "postgresql.crt sslkey=" + v.files + "postgresql.key"
}

func TestPublicAndPrivateNameTogetherWithMutualTLS(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	f := i.enable(t, "shop")
	i.letIn(t, "shop")
	v := i.download(t, f, "shop", "")
	live := v.converse(t)
	says(t, i.do(t, "enhanced-certificates", "enable", "shop", "--wait"), "Enabled after", "Status:", "Enabled", "host:", "db-")
	host := i.host(t, "shop")
	i.clients(t, f, host, v)
	refuses(t, i.public(f, host, ""), "client certificate")
	refuses(t, strings.Replace(i.public(f, host, v.withCertificate()), "sslrootcert="+i.bundle, "sslrootcert="+v.files+"root.crt", 1), "certificate verify failed")
	v.comesIn(t) // the old URL
	live.goesOn(t)

	url := i.do(t, "url", "shop", "--roots", i.bundle)
	says(t, url, "postgres://"+host+":"+f.Port, "sslmode=verify-full", "sslrootcert="+i.bundle, "export PGSSLCERT=", "The previous URL stays valid: postgres://localhost:"+f.Port)

	for range 3 {
		says(t, i.do(t, "enhanced-certificates", "renew", "shop", "--wait"), "renewed after")
		answers(t, pgtest.Client{}, i.public(f, host, v.withCertificate()))
		live.goesOn(t)
	}

	// Rules and revocations hold on both names.
	id := i.idOf(t, "shop", certificateName(t, i, "shop"))
	public := v.converseBy(t, i.public(f, host, v.withCertificate()))
	i.do(t, "certificates", "create", "shop", "--name", "next", "--wait")
	next := i.download(t, f, "shop", i.idOf(t, "shop", "next"))
	i.do(t, "certificates", "delete", "shop", "--id", id, "--wait")
	public.wasEnded(t, "revoked")
	live.wasEnded(t, "revoked")
	refuses(t, i.public(f, host, v.withCertificate()), "revoked")
	answers(t, pgtest.Client{}, i.public(f, host, next.withCertificate()))

	live = next.converse(t)
	says(t, i.do(t, "enhanced-certificates", "disable", "shop", "--confirm", "shop", "--wait"), "Disabled after")
	live.goesOn(t)
	next.comesIn(t)
	refuses(t, i.public(f, host, next.withCertificate()), "certificate verify failed")

	orders := i.faults.Requests(acmetest.NewOrderPath)
	i.do(t, "enhanced-certificates", "enable", "shop", "--wait")
	if n := i.faults.Requests(acmetest.NewOrderPath); n != orders {
		t.Errorf("enabling again cost %d orders", n-orders)
	}
	answers(t, pgtest.Client{}, i.public(f, host, next.withCertificate()))
	live.goesOn(t)
	live.leave(t)
	if left := i.dns.TXT("_acme-challenge." + host + "."); len(left) > 0 {
		t.Errorf("records are left: %q", left)
	}
}

// certificateName is the name of the first certificate of a database.
func certificateName(t *testing.T, i *issuing, database string) string {
	t.Helper()
	var list []struct{ Name string }
	i.read(t, &list, "certificates", database)
	return list[0].Name
}

// Each of these has its own idea of what a root certificate is.
func (i *issuing) clients(t *testing.T, f *front, host string, v visitor) {
	t.Helper()
	certificate := ""
	if v.files != "" {
		certificate = v.withCertificate()
	}
	t.Run("psql of the distribution", func(t *testing.T) { answers(t, pgtest.Client{}, i.public(f, host, certificate)) })
	t.Run("libpq 18", func(t *testing.T) {
		client := pgtest.Client{LibDir: pgtest.Embedded(t, 18).LibDir}
		answers(t, client, i.public(f, host, certificate))
		// The system's roots are a file that OpenSSL is told of.
		client.Env = []string{"SSL_CERT_FILE=" + i.bundle}
		answers(t, client, strings.Replace(i.public(f, host, certificate), "sslrootcert="+i.bundle, "sslrootcert=system", 1))
	})
	t.Run("pgx", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conninfo := strings.Replace(i.public(f, host, certificate), "hostaddr=127.0.0.1 ", "", 1)
		config, err := pgx.ParseConfig(conninfo)
		must.OK(t, err)
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
		conn, err := pgx.ConnectConfig(ctx, config)
		must.OK(t, err)
		must.OK(t, conn.Close(ctx))
	})
	t.Run("node-postgres", func(t *testing.T) {
		modules, err := filepath.Abs("../../.cache/node-postgres/node_modules")
		must.OK(t, err)
		if _, err := os.Stat(filepath.Join(modules, "pg")); err != nil {
			t.Skip("node-postgres: scripts/fetch-drivers.sh fetches it where npm and a registry are to be had")
		}
		i.driver(t, f, host, v, []string{"NODE_PATH=" + modules}, "node", "testdata/public_node_postgres.js")
	})
	t.Run("pgjdbc", func(t *testing.T) {
		const jar = "/usr/share/java/postgresql.jar"
		if _, err := os.Stat(jar); err != nil {
			t.Skip("this needs Debian's libpostgresql-jdbc-java")
		}
		if _, err := exec.LookPath("javac"); err != nil {
			t.Skip("this needs a JDK")
		}
		classes := t.TempDir() // pgjdbc finds the socket factory by its name
		if _, stderr, code := program(t, "javac", "-cp", jar, "-d", classes, "testdata/PublicPgjdbc.java"); code != 0 {
			t.Fatal(stderr)
		}
		i.driver(t, f, host, v, nil, "java", "-cp", jar+":"+classes, "PublicPgjdbc")
	})
}

// driver runs a program that connects by the URL that people are given, from where the public name is this machine's.
func (i *issuing) driver(t *testing.T, f *front, host string, v visitor, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "HOST="+host, "PORT="+f.Port, "ROOTS="+i.bundle)
	if v.files != "" {
		block, _ := pem.Decode([]byte(readFile(t, v.files+"postgresql.key")))
		der := filepath.Join(t.TempDir(), "postgresql.pk8") // pgjdbc reads no PEM
		writeFile(t, der, string(block.Bytes))
		command.Env = append(command.Env, "CERT="+v.files+"postgresql.crt", "KEY="+v.files+"postgresql.key", "KEY_DER="+der)
	}
	if output, err := command.CombinedOutput(); err != nil || strings.TrimSpace(string(output)) != "answered" {
		t.Errorf("%v: %s", err, output)
	}
}

// Heroku's ordinary case: no client certificates. The rules decide, and there are none at first.
func TestPublicNameWithoutMutualTLS(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	f := newFront(t, i.policyDir(t, "plain"))
	i.do(t, "databases", "create", "plain", "--host", "localhost", "--port", f.Port, "--proxy", "beside", "--policy-dir", f.PolicyDir, "--admin", f.Admin)
	w := heroku(i.web(t, ""), i.admin(t))
	var is fields
	w.gets(t, http.StatusOK, "GET /client/v11/enhanced_certificates/plain/status", "", &is)
	if len(is) != 1 || is.text("status") != "Disabled" {
		t.Errorf("got %v", is)
	}
	w.gets(t, http.StatusOK, "PUT /client/v11/enhanced_certificates/plain/enable", "", nil)
	w.polled(t, "/client/v11/enhanced_certificates/plain/status", "status", "Enabled")
	host := i.host(t, "plain")
	refuses(t, i.public(f, host, ""), "IP rule")
	i.letIn(t, "plain")
	i.clients(t, f, host, visitor{})
	url := i.do(t, "url", "plain", "--roots", i.bundle)
	says(t, url, "postgres://"+host+":"+f.Port)
	if regexp.MustCompile(`PGSSL|sslcert`).MatchString(url) {
		t.Errorf("a client needs no certificate:\n%s", url)
	}
	live := visitor{}.converseBy(t, i.public(f, host, ""))

	// Mutual TLS later changes nothing else, and ends who has no certificate.
	i.do(t, "mtls", "create", "plain", "--wait")
	eventually.OK(t, patience, func() error {
		if text := i.do(t, "proxies", "plain"); !strings.Contains(text, "in force") {
			return errNotYet(text)
		}
		return nil
	})
	live.wasEnded(t, "certificate")
	refuses(t, i.public(f, host, ""), "client certificate")
	v := i.download(t, f, "plain", "")
	answers(t, pgtest.Client{}, i.public(f, host, v.withCertificate()))
	v.comesIn(t)
	i.do(t, "mtls", "destroy", "plain", "--confirm", "plain", "--wait")
	refuses(t, i.public(f, host, ""), "IP rule")
	i.refuses(t, "has no mutual TLS", "ip-rules", "create", "plain", "--cidr", "127.0.0.0/8")
}

// A daemon that is killed leaves the order to the next, and one that is told that its record failed says what to do.
func TestEnhancedCertificateOutlivesItsDaemonAndSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	f := i.enable(t, "shop")
	i.faults.Fail(acmetest.NewOrderPath, -1, acmetest.Problem(http.StatusForbidden, "caa", "CAA record for example.test prevents issuance"))
	i.do(t, "enhanced-certificates", "enable", "shop")
	result := i.run(t, "enhanced-certificates", "enable", "shop", "--wait", "--timeout", "5s")
	if result.code != 1 || !strings.Contains(result.stderr, "caa_forbids (CAA record for example.test prevents issuance), next attempt") {
		t.Errorf("%+v", result)
	}
	i.kill(t)
	i.faults.Heal()
	i.start(t)
	says(t, i.do(t, "enhanced-certificates", "shop"), "Status:", "Provisioning", "reason:", "caa_forbids")
	i.do(t, "enhanced-certificates", "renew", "shop") // somebody has mended it
	i.do(t, "enhanced-certificates", "enable", "shop", "--wait")
	v := i.download(t, f, "shop", "")
	i.letIn(t, "shop")
	answers(t, pgtest.Client{}, i.public(f, i.host(t, "shop"), v.withCertificate()))
	says(t, i.do(t, "audit", "--database", "shop"), "enhanced_certificate.enabled", "enhanced_certificate.issue", "enhanced_certificate.fail", "enhanced_certificate.enable")
	says(t, i.do(t, "acme"), "zone:", "example.test", "authority:", "pebble", "account:", "https://")
	says(t, i.do(t, "acme", "rollover", "pebble"), "account:")
	says(t, i.do(t, "enhanced-certificates", "renew", "shop", "--wait"), "renewed after")
}

// A certificate of one's own is served as one of an authority is, and the proxies take what the control plane takes.
func TestUploadedCertificateIsServed(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	f := p.enable(t, "shop")
	p.letIn(t, "shop")
	v := p.download(t, f, "shop", "")
	live := v.converse(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	authority := testpki.MustCA(t, "a CA of our own")
	between := authority.MustIntermediate(t, testpki.Authority("an intermediate of our own"))
	writeFile(t, at("bundle.pem"), string(authority.PEM()))
	i := &issuing{plane: p, bundle: at("bundle.pem")}
	for _, key := range []testpki.Key{testpki.P256, testpki.RSA2048} {
		template := testpki.Server("db.example.org", "*.example.org")
		template.Key = key
		pair := between.MustIssue(t, template)
		must.OK(t, pair.Write(at("server")))
		says(t, p.do(t, "enhanced-certificates", "upload", "shop", "--cert", at("server.crt"), "--key", at("server.key"), "--wait"), "Enabled after", "host:", "db.example.org", "nobody: it was uploaded")
		answers(t, pgtest.Client{}, i.public(f, "db.example.org", v.withCertificate()))
		answers(t, pgtest.Client{}, i.public(f, "other.example.org", v.withCertificate()))
		v.comesIn(t)
	}
	live.goesOn(t)
	live.leave(t)
	if status, err := f.status(); err != nil || status.Reload.Error != "" {
		t.Errorf("the proxy says %q, %v", status.Reload.Error, err)
	}
}
