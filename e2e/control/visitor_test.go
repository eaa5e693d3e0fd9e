package control

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// program runs any program to its end.
func program(t testing.TB, path string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, path, args...)
	command.Env = append(os.Environ(), raceOptions)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	err := command.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), errs.String(), command.ProcessState.ExitCode()
}

// openssl runs openssl, which must succeed.
func openssl(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, code := program(t, "openssl", args...)
	if code != 0 {
		t.Fatalf("openssl %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// visitor is psql with the files that certificates download wrote.
type visitor struct {
	front *front
	files string // their directory and what their names begin with
	key   string // another file for the key; empty: the one of the download
	host  string // another name for the server; empty: localhost
	roots string // what verifies it; empty: root.crt of the download
}

func (v visitor) conninfo() string {
	key := v.key
	if key == "" {
		key = v.files + "postgresql.key"
	}
	return fmt.Sprintf("host=%s hostaddr=127.0.0.1 port=%s user=postgres dbname=postgres connect_timeout=20 sslmode=verify-full sslcert=%spostgresql.crt sslkey=%s sslrootcert=%s",
		cmp.Or(v.host, "localhost"), v.front.Port, v.files, key, cmp.Or(v.roots, v.files+"root.crt"))
}

// psql runs one query.
func (v visitor) psql(t testing.TB) pgtest.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := pgtest.Psql(ctx, nil, v.conninfo(), "-Atc", "select 'answered'")
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// comesIn and staysOut fail the test unless psql is served, or is told no with the words.
func (v visitor) comesIn(t testing.TB) {
	t.Helper()
	if result := v.psql(t); result.ExitCode != 0 || result.Stdout != "answered\n" {
		t.Errorf("psql with %s ended with %d: %s", v.files, result.ExitCode, result.Stderr)
	}
}

func (v visitor) staysOut(t testing.TB, words string) {
	t.Helper()
	if result := v.psql(t); result.ExitCode != 2 || !strings.Contains(result.Stderr, words) {
		t.Errorf("psql with %s ended with %d: %s%s\nwant %q", v.files, result.ExitCode, result.Stdout, result.Stderr, words)
	}
}

// conversation is a psql that stays connected.
type conversation struct {
	in     io.WriteCloser
	out    *os.File // the reading end of a pipe
	lines  *bufio.Reader
	errors bytes.Buffer
	pid    string // of its server process: the same for as long as the session lives
	wait   func() error
}

// converse starts psql and returns when its session is there.
func (v visitor) converse(t testing.TB) *conversation {
	t.Helper()
	return v.converseBy(t, v.conninfo())
}

// converseBy is converse with another connection string.
func (v visitor) converseBy(t testing.TB, conninfo string) *conversation {
	t.Helper()
	command, err := pgtest.Client{}.Command(t.Context(), conninfo, "-At")
	if err != nil {
		t.Fatal(err)
	}
	command.Stdin = nil
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	c := &conversation{in: in, out: out, lines: bufio.NewReader(out), wait: command.Wait}
	command.Stdout, command.Stderr = write, &c.errors
	err = command.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.pid = c.ask(t)
	return c
}

// ask types a query and reads its answer, the server process's id.
func (c *conversation) ask(t testing.TB) string {
	t.Helper()
	if _, err := io.WriteString(c.in, "select pg_backend_pid();\n"); err != nil {
		t.Fatalf("type into psql: %v; it has said: %s", err, &c.errors)
	}
	c.out.SetReadDeadline(time.Now().Add(patience))
	line, err := c.lines.ReadString('\n')
	if err != nil {
		c.in.Close()
		c.wait()
		t.Fatalf("psql does not answer (%v); it has said: %s", err, &c.errors)
	}
	return strings.TrimSuffix(line, "\n")
}

// goesOn wants that the session is the one that it was.
func (c *conversation) goesOn(t testing.TB) {
	t.Helper()
	if pid := c.ask(t); pid != c.pid {
		t.Fatalf("the session has another server process: %s, not %s", pid, c.pid)
	}
}

// wasEnded wants that psql finds its session ended, and could read why.
func (c *conversation) wasEnded(t testing.TB, words string) {
	t.Helper()
	io.WriteString(c.in, "select 'still here';\n") // it may have ended already
	c.in.Close()
	err := c.wait()
	if text := c.errors.String(); err == nil || !strings.Contains(text, "FATAL") || !strings.Contains(text, words) {
		t.Errorf("psql ended with %v: %s\nwant FATAL and %q", err, text, words)
	}
}

// leave ends psql, which must not have met an error.
func (c *conversation) leave(t testing.TB) {
	t.Helper()
	c.in.Close()
	if err := c.wait(); err != nil || c.errors.Len() > 0 {
		t.Errorf("psql ended with %v: %s", err, &c.errors)
	}
}

// download gets a certificate's files into a directory of their own.
func (p *plane) download(t testing.TB, f *front, database, id string) visitor {
	t.Helper()
	dir := t.TempDir()
	args := []string{"certificates", "download", database, "--dir", dir}
	if id != "" {
		args = append(args, "--id", id)
	}
	p.do(t, args...)
	return visitor{front: f, files: dir + string(filepath.Separator)}
}
