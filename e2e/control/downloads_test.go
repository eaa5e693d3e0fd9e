package control

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

const (
	pgjdbc      = "/usr/share/java/postgresql.jar" // Debian's libpostgresql-jdbc-java
	nodeModules = "../../.cache/node-postgres/node_modules"
)

// Every driver comes in with the files as they were downloaded, whatever stands above the CA: pgjdbc sends its
// certificate only if the issuer of the last one in the file is named by the proxy.
func TestDriversComeInWithFilesAsDownloaded(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	var arrivals []arrival
	for _, c := range []struct {
		space string
		above int  // the CAs from outside that are above the one that signs; none: the control plane's own CA
		twice bool // another CA of that kind replaces it
	}{{"own", 0, false}, {"intermediate", 1, false}, {"deep", 2, true}} {
		if c.above > 0 {
			p.importCA(t, c.space, "before", c.above)
		}
		f := p.front(t, "shop-"+c.space, c.space)
		arrivals = append(arrivals, p.arrival(t, f, c.space, ""))
		if c.twice { // while a CA is being replaced, the policy has both
			p.importCA(t, c.space, "after", c.above)
			arrivals = append(arrivals, p.arrival(t, f, c.space+", replaced", p.newest(t, "shop-"+c.space)))
			p.inForce(t, "shop-"+c.space)
		}
	}
	t.Run("psql", func(t *testing.T) {
		for _, a := range arrivals {
			a.comesIn(t)
		}
	})
	t.Run("node-postgres", func(t *testing.T) {
		modules, err := filepath.Abs(nodeModules)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(modules, "pg")); err != nil {
			t.Skip("node-postgres is not here: scripts/fetch-drivers.sh fetches it")
		}
		args := []string{"testdata/drivers/connect.js"}
		for _, a := range arrivals {
			args = append(args, a.files+"="+a.front.Port)
		}
		allAnswered(t, arrivals, "node", []string{"NODE_PATH=" + modules}, args...)
	})
	// These two look at what the proxy names, which each version of TLS says in another way.
	for _, version := range []string{"1.2", "1.3"} {
		t.Run("pgx, TLS "+version, func(t *testing.T) {
			for _, a := range arrivals {
				a.pgx(t, version)
			}
		})
		t.Run("pgjdbc, TLS "+version, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(pgjdbc); err != nil {
				t.Skip("Debian's libpostgresql-jdbc-java is not here")
			}
			if _, err := exec.LookPath("javac"); err != nil {
				t.Skip("there is no JDK here")
			}
			args := []string{"-Djdk.tls.client.protocols=TLSv" + version, "-cp", pgjdbc, "testdata/drivers/Connect.java"}
			twice := make([]arrival, 0, 2*len(arrivals))
			for _, a := range arrivals {
				args = append(args, a.pk8, a.p12)
				twice = append(twice, a, a)
			}
			allAnswered(t, twice, "java", nil, args...)
		})
	}
}

// arrival is a client with all forms of its files.
type arrival struct {
	visitor
	name     string
	pk8, p12 string // JDBC URLs
}

// arrival downloads a certificate in all its forms.
func (p *plane) arrival(t *testing.T, f *front, name, id string) arrival {
	t.Helper()
	dir := t.TempDir()
	database := f.database
	password := filepath.Join(dir, "password")
	writeFile(t, password, "correct horse\n")
	download := func(args ...string) string {
		args = append([]string{"certificates", "download", database, "--dir", dir}, args...)
		if id != "" {
			args = append(args, "--id", id)
		}
		return p.do(t, args...)
	}
	jdbc := func(text string) string {
		_, parameters, found := strings.Cut(text, "For JDBC:  ")
		if !found {
			t.Fatalf("no parameters of JDBC in %s", text)
		}
		return "jdbc:postgresql://localhost:" + f.Port + "/postgres?user=postgres&sslmode=verify-full&" + strings.TrimSpace(parameters)
	}
	download()
	a := arrival{visitor: visitor{front: f, files: dir + string(filepath.Separator)}, name: name}
	a.pk8 = jdbc(download("--format", "pk8"))
	a.p12 = strings.Replace(jdbc(download("--format", "p12", "--password-file", password)), "sslpassword=PASSWORD", "sslpassword=correct%20horse", 1)
	return a
}

// pgx connects with what its documentation calls a connection string.
func (a arrival) pgx(t *testing.T, version string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	config, err := pgx.ParseConfig(strings.Replace(a.conninfo(), " hostaddr=127.0.0.1 ", " ", 1))
	if err != nil {
		t.Fatal(err)
	}
	if version == "1.2" {
		config.TLSConfig.MaxVersion = tls.VersionTLS12
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Errorf("%s: %v", a.name, err)
		return
	}
	conn.Close(ctx)
}

// allAnswered runs a program that prints a line for each arrival.
func allAnswered(t *testing.T, arrivals []arrival, name string, env []string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("there is no %s here", name)
	}
	stdout, stderr, code := program(t, "env", slices.Concat(env, []string{name}, args)...)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || len(lines) != len(arrivals) {
		t.Fatalf("%s ended with %d: %s%s", name, code, stdout, stderr)
	}
	for i, a := range arrivals {
		if lines[i] != "answered" {
			t.Errorf("%s, %d: %s", a.name, i, lines[i])
		}
	}
}

// importCA makes a CA of openssl's the signing one of a space, with as many above it.
func (p *plane) importCA(t *testing.T, space, generation string, above int) {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	curve := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"}
	openssl(t, append([]string{"req", "-x509", "-days", "3650", "-subj", "/O=Company/CN=Root " + space + " " + generation, "-keyout", at("0.key"), "-out", at("0.crt"),
		"-addext", "keyUsage=critical,keyCertSign,cRLSign"}, curve...)...)
	chain := readFile(t, at("0.crt"))
	for i := range above {
		name, issuer := at(string(rune('1'+i))), at(string(rune('0'+i)))
		openssl(t, append([]string{"req", "-new", "-subj", "/O=Company/CN=" + space + " " + generation + " " + filepath.Base(name), "-keyout", name + ".key", "-out", name + ".csr"}, curve...)...)
		writeFile(t, name+".ext", "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
		openssl(t, "x509", "-req", "-in", name+".csr", "-CA", issuer+".crt", "-CAkey", issuer+".key", "-CAcreateserial", "-days", "1800", "-extfile", name+".ext", "-out", name+".crt")
		chain = readFile(t, name+".crt") + chain
	}
	writeFile(t, at("chain.crt"), chain)
	p.do(t, "ca", "import", space, "--cert", at("chain.crt"), "--key", at(string(rune('0'+above)))+".key")
}

// front registers a database of the space with a proxy beside the daemon that lets in this machine.
func (p *plane) front(t *testing.T, database, space string) *front {
	t.Helper()
	f := newFront(t, p.policyDir(t, database))
	f.database = database
	p.do(t, "databases", "create", database, "--space", space, "--host", "localhost", "--port", f.Port, "--proxy", "beside", "--policy-dir", f.PolicyDir, "--admin", f.Admin)
	p.do(t, "mtls", "create", database, "--wait")
	p.letIn(t, database)
	return f
}

// newest creates a certificate, by the CA that signs now, and gives its id.
func (p *plane) newest(t *testing.T, database string) string {
	t.Helper()
	p.do(t, "certificates", "create", database, "--name", "newest", "--wait")
	return p.idOf(t, database, "newest")
}
