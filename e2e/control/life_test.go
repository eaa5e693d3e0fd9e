package control

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// life is a database with a proxy beside the daemon, and another database of the same space.
type life struct {
	*plane
	shop, books *front
}

// newLife registers the two and enables their mutual TLS. Nobody is let in yet.
func newLife(t *testing.T) *life {
	l := &life{plane: newPlane(t)}
	l.shop, l.books = l.enable(t, "shop"), l.enable(t, "books")
	return l
}

// enable registers a database with a proxy beside the daemon, and waits for its mutual TLS.
func (p *plane) enable(t *testing.T, database string) *front {
	t.Helper()
	f := newFront(t, p.policyDir(t, database))
	p.do(t, "databases", "create", database, "--host", "localhost", "--host", database+".db.test", "--port", f.Port,
		"--proxy", "beside", "--policy-dir", f.PolicyDir, "--admin", f.Admin)
	p.do(t, "mtls", "create", database, "--wait")
	return f
}

// letIn makes a rule for the loopback network.
func (p *plane) letIn(t *testing.T, database string) {
	t.Helper()
	p.do(t, "ip-rules", "create", database, "--cidr", "127.0.0.0/8", "--wait")
}

func TestRulesByCommandLine(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	says(t, l.do(t, "databases"), "NAME", "books", "Operational", "shop", "localhost", "Operational")
	says(t, l.do(t, "databases", "show", "shop"), "database:", "shop", "hosts:", "localhost, shop.db.test", "proxies:", "beside")
	says(t, l.do(t, "mtls", "shop"), "addon:", "shop", "status:", "Operational", "enabled by:", "admin")
	v := l.download(t, l.shop, "shop", "")
	v.staysOut(t, "")

	says(t, l.do(t, "ip-rules", "create", "shop", "--cidr", "127.0.0.0/8", "--description", "This machine", "--wait"),
		"Authorized after", "cidr:", "127.0.0.0/8", "description:", "This machine", "status:", "Authorized")
	v.comesIn(t)
	l.letIn(t, "books")
	other := l.download(t, l.books, "books", "")
	other.comesIn(t)
	other.front = l.shop
	other.staysOut(t, "is not for this database") // it is of the same CA
	says(t, l.do(t, "proxies", "shop"), "beside", "in force", l.shop.PolicyDir)

	l.refuses(t, "host bits", "ip-rules", "create", "shop", "--cidr", "10.0.0.1/8")
	l.refuses(t, "127.0.0.0/8", "ip-rules", "create", "shop", "--cidr", "127.0.0.0/8")
	l.refuses(t, "no database", "ip-rules", "create", "shoop", "--cidr", "10.0.0.0/8")

	live := v.converse(t)
	says(t, l.do(t, "ip-rules", "delete", "shop", "--cidr", "127.0.0.0/8", "--dry-run"),
		"would end 1 session", "Nothing was changed", "beside", "127.0.0.1", "postgres")
	live.goesOn(t)
	says(t, l.do(t, "ip-rules", "delete", "shop", "--cidr", "127.0.0.0/8", "--wait"), "gone after")
	live.wasEnded(t, "IP rule")
	v.staysOut(t, "")
	says(t, l.do(t, "ip-rules", "shop"), "no client can connect")

	// Deleted and added again at once, without waiting between.
	l.letIn(t, "shop")
	l.do(t, "ip-rules", "delete", "shop", "--cidr", "127.0.0.0/8")
	l.letIn(t, "shop")
	v.comesIn(t)
	says(t, l.do(t, "audit", "--database", "shop"), "ip_rule.authorized", "ip_rule.create", "mtls.create", "database.create")
}

func TestCertificatesByCommandLine(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	l.letIn(t, "shop")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	at1 := visitor{front: l.shop, files: at("reporting-")}
	l.do(t, "certificates", "create", "shop", "--name", "reporting", "--wait", "--download", "--dir", dir, "--prefix", "reporting-")
	at1.comesIn(t)
	if info, err := os.Stat(at("reporting-postgresql.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v, %v", info.Mode(), err)
	}
	// Another implementation reads and verifies what was written.
	openssl(t, "verify", "-purpose", "sslclient", "-x509_strict", "-CAfile", at("reporting-root.crt"), at("reporting-postgresql.crt"))
	says(t, readFile(t, at("reporting-postgresql.key")), "BEGIN PRIVATE KEY") // PKCS #8
	l.formats(t, dir)

	var list []struct{ ID, Name, Status string }
	l.read(t, &list, "certificates", "shop")
	if len(list) != 2 || list[1].Name != "reporting" || list[1].Status != "ready" {
		t.Fatalf("got %+v", list)
	}
	reporting := list[1].ID
	l.do(t, "certificates", "delete", "shop", "--id", reporting, "--after", "24h")
	says(t, l.do(t, "certificates", "shop"), "reporting", "will be revoked")
	l.do(t, "certificates", "keep", "shop", "--id", reporting)
	at1.comesIn(t)

	live, spared := at1.converse(t), l.download(t, l.shop, "shop", list[0].ID).converse(t)
	says(t, l.do(t, "certificates", "delete", "shop", "--id", reporting, "--wait"), "disabled after")
	live.wasEnded(t, "revoked")
	at1.staysOut(t, "revoked")
	spared.goesOn(t)
	spared.leave(t)
	says(t, l.do(t, "certificates", "shop"), "reporting", "disabled")
	l.refuses(t, reporting, "certificates", "get", "shop", "--id", reporting)

	// A client that keeps its own key.
	openssl(t, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=own", "-keyout", at("own.key"), "-out", at("own.csr"))
	l.do(t, "certificates", "create", "shop", "--name", "own", "--csr", at("own.csr"), "--wait", "--download", "--dir", dir, "--prefix", "own-")
	if _, err := os.Stat(at("own-postgresql.key")); err == nil {
		t.Error("a key was written of which only the client should have one")
	}
	visitor{front: l.shop, files: at("own-"), key: at("own.key")}.comesIn(t)
}

// inForce waits until every proxy of a database has its newest policy in force.
func (p *plane) inForce(t *testing.T, database string) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		var said struct {
			InForce bool `json:"in_force"`
			Proxies []any
		}
		if p.read(t, &said, "proxies", database); !said.InForce {
			return errNotYet(said)
		}
		return nil
	})
}

// formats reads the other forms of a key with the programs that they are for.
func (l *life) formats(t *testing.T, dir string) {
	id := l.idOf(t, "shop", "reporting")
	l.do(t, "certificates", "download", "shop", "--id", id, "--dir", dir, "--prefix", "java-", "--format", "pk8")
	key := openssl(t, "pkcs8", "-inform", "DER", "-nocrypt", "-in", filepath.Join(dir, "java-postgresql.pk8"))
	if want := readFile(t, filepath.Join(dir, "reporting-postgresql.key")); key != want {
		t.Error("the pk8 has another key")
	}
	password := filepath.Join(dir, "password")
	writeFile(t, password, "correct horse\n")
	l.do(t, "certificates", "download", "shop", "--id", id, "--dir", dir, "--prefix", "java-", "--format", "p12", "--password-file", password)
	store := filepath.Join(dir, "java-postgresql.p12")
	says(t, openssl(t, "pkcs12", "-in", store, "-passin", "file:"+password, "-nodes"), "BEGIN CERTIFICATE", "BEGIN PRIVATE KEY")
	if keytool, err := exec.LookPath("keytool"); err == nil {
		stdout, stderr, code := program(t, keytool, "-list", "-keystore", store, "-storepass", "correct horse")
		if code != 0 || !strings.Contains(stdout, "PrivateKeyEntry") {
			t.Errorf("keytool ended with %d: %s%s", code, stdout, stderr)
		}
	}
}

// idOf finds a certificate by its name.
func (p *plane) idOf(t *testing.T, database, name string) string {
	t.Helper()
	var list []struct{ ID, Name string }
	p.read(t, &list, "certificates", database)
	for _, c := range list {
		if c.Name == name {
			return c.ID
		}
	}
	t.Fatalf("%s has no certificate %s: %+v", database, name, list)
	return ""
}

// What url prints is enough for a shell to connect.
func TestURLIsEnoughForAShell(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	l.letIn(t, "shop")
	v := l.download(t, l.shop, "shop", "")
	text := l.do(t, "url", "shop", "--user", "postgres", "--dbname", "postgres", "--dir", filepath.Dir(v.files))
	says(t, text, "DATABASE_URL='postgres://postgres@localhost:", "sslmode=verify-full", "&sslcert=", "&sslkey=", "&sslrootcert=", "'\n", "export PGSSLCERT=", "export PGSSLKEY=", "export PGSSLROOTCERT=", "jdbc:postgresql://localhost:", "sslkey=", ".pk8")
	line, _, _ := strings.Cut(text, "\n")
	exports := strings.Join(regexp.MustCompile(`(?m)^export .*$`).FindAllString(text, -1), "\n")
	for _, script := range []string{
		line + "\nexec psql -X -At -d \"$DATABASE_URL\" -c \"select 'answered'\"\n",
		line + "\n" + exports + "\nexec psql -X -At -d \"${DATABASE_URL%%&sslcert*}\" -c \"select 'answered'\"\n",
	} {
		stdout, stderr, code := program(t, "sh", "-c", script)
		if code != 0 || stdout != "answered\n" {
			t.Errorf("the shell ended with %d: %s%s\n%s", code, stdout, stderr, script)
		}
	}
}

// A text that the proxy could not read would have stopped every later policy, this revocation included.
func TestDescriptionStopsNoRevocation(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	l.letIn(t, "shop")
	l.do(t, "certificates", "create", "shop", "--name", "stolen", "--wait")
	var list []struct{ ID, Name string }
	l.read(t, &list, "certificates", "shop")
	v := l.download(t, l.shop, "shop", list[1].ID)
	live := v.converse(t)
	for i, text := range []string{"? ask Bob what this is", "- a", "!tag", "...", `a "quoted": # text`} {
		l.do(t, "ip-rules", "create", "shop", "--cidr", "198.51.100."+strconv.Itoa(i)+"/32", "--description", text, "--wait")
	}
	l.do(t, "certificates", "delete", "shop", "--id", list[1].ID, "--wait")
	live.wasEnded(t, "revoked")
	v.staysOut(t, "revoked")
	l.download(t, l.shop, "shop", list[0].ID).comesIn(t)
}

// The proxy looks every ten seconds, and finds nothing where it looks.
func TestProxyThatReadsAnotherDirectoryIsNamed(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	own := filepath.Join(t.TempDir(), "own")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFront(t, own)
	dir := p.policyDir(t, "shop")
	p.do(t, "databases", "create", "shop", "--host", "localhost", "--proxy", "beside", "--policy-dir", dir, "--admin", f.Admin)
	p.do(t, "mtls", "create", "shop")
	eventually.OK(t, patience, func() error {
		text := p.do(t, "proxies", "shop")
		return errUnless(strings.Contains(text, "it reads its policy from "+own+", and its policy is written to "+dir), text)
	})
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, own); err != nil {
		t.Fatal(err)
	}
	says(t, p.do(t, "mtls", "create", "shop", "--wait"), "shop already has mutual TLS", "Operational after")
	p.inForce(t, "shop")
	if text := p.do(t, "proxies", "shop"); strings.Contains(text, "it reads its policy from") {
		t.Errorf("it reads the directory by a link now, and is still told: %s", text)
	}
}

func TestDestroyedMeansNobodyGetsIn(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	l.letIn(t, "shop")
	v := l.download(t, l.shop, "shop", "")
	live := v.converse(t)
	if result := l.run(t, "mtls", "destroy", "shop"); result.code != 2 {
		t.Errorf("without --confirm it ends with %d", result.code)
	}
	live.goesOn(t)
	says(t, l.do(t, "mtls", "destroy", "shop", "--confirm", "shop", "--wait"), "gone after")
	live.wasEnded(t, "")
	v.staysOut(t, "")
	l.refuses(t, "no mutual TLS", "mtls", "shop")

	// Created again, destroyed and created again at once.
	l.do(t, "mtls", "create", "shop", "--wait")
	l.letIn(t, "shop")
	fresh := l.download(t, l.shop, "shop", "")
	fresh.comesIn(t)
	v.staysOut(t, "revoked")
	l.do(t, "mtls", "destroy", "shop", "--confirm", "shop")
	l.do(t, "mtls", "create", "shop", "--wait")
	l.letIn(t, "shop")
	fresh.staysOut(t, "revoked")
	again := l.download(t, l.shop, "shop", "")
	again.comesIn(t)
	l.do(t, "mtls", "destroy", "shop", "--confirm", "shop", "--wait")
	l.do(t, "databases", "delete", "shop", "--confirm", "shop")
	again.staysOut(t, "")
}

func TestShellsCompleteCommands(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	l.letIn(t, "shop")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := l.do(t, "completion", shell)
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		file := filepath.Join(t.TempDir(), "completion")
		writeFile(t, file, script)
		if stdout, stderr, code := program(t, path, "-n", file); code != 0 {
			t.Errorf("%s can't read its completion: %s%s", shell, stdout, stderr)
		}
	}
	says(t, l.do(t, "__complete", "ip-rules", "delete", "s"), "shop")
	says(t, l.do(t, "__complete", "ip-rules", "delete", "shop", "--id", ""), "127.0.0.0/8")
}
