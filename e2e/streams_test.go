package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// rows are lines of text of about the size, with ids before them.
func rows(size int) []byte {
	random := rand.NewChaCha8([32]byte{7})
	text := bytes.NewBuffer(make([]byte, 0, size+200))
	raw := make([]byte, 48)
	for id := 0; text.Len() < size; id++ {
		random.Read(raw)
		fmt.Fprintf(text, "%d\t%x\n", id, raw)
	}
	return text.Bytes()
}

// What psql copies in and out again is the same, byte for byte.
func TestCopyInAndOutIsTheSame(t *testing.T) {
	t.Parallel()
	s := server(t)
	dir := t.TempDir()
	data := rows(50 << 20)
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	writeFile(t, in, data)
	s.Query(t, "drop table if exists copied; create unlogged table copied (id int, payload text)")
	p := start(t, options{})
	for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
		result := p.psql(t, "ssl_max_protocol_version="+version, "-v", "ON_ERROR_STOP=1", "-c", "truncate copied",
			"-c", `\copy copied from '`+in+`'`, "-c", `\copy (select * from copied order by id) to '`+out+`'`)
		if result.ExitCode != 0 {
			t.Fatalf("psql ended with %d: %s", result.ExitCode, result.Stderr)
		}
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("%s: %d bytes went in and %d others came out", version, len(data), len(got))
		}
	}
	moved := p.metric(t, `pgmtls_bytes_total{direction="to_server"}`)
	if moved < float64(2*len(data)) || moved > 2.2*float64(len(data)) {
		t.Errorf("%v bytes are counted to the server, %d were sent", moved, 2*len(data))
	}
}

// A script with its data inside: psql -f, as dumps are restored.
func TestScriptWithItsDataInside(t *testing.T) {
	t.Parallel()
	server(t)
	data := rows(10 << 20)
	script := filepath.Join(t.TempDir(), "script.sql")
	writeFile(t, script, []byte("drop table if exists restored;\ncreate unlogged table restored (id int, payload text);\ncopy restored from stdin;\n"+
		string(data)+"\\.\ncopy (select * from restored order by id) to stdout;\n"))
	p := start(t, options{})
	result := p.psql(t, "", "-q", "-v", "ON_ERROR_STOP=1", "-f", script)
	if result.ExitCode != 0 || result.Stdout != string(data) {
		t.Errorf("psql ended with %d and printed %d bytes, want %d: %.200s", result.ExitCode, len(result.Stdout), len(data), result.Stderr)
	}
}

// A client that has said all it wanted may still listen: the server's answer comes whole, and then the end.
func TestHalfClosedClientReadsTheWholeAnswer(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := clientTLS("app")
		config.MinVersion, config.MaxVersion = version, version
		w := dial(t, p).negotiate(t, config)
		w.login(t, asPostgres())
		w.send(t, query("copy (select repeat('x', 1023) from generate_series(1, 8192)) to stdout"))
		if err := errors.Join(w.Conn.(*tls.Conn).CloseWrite(), w.socket.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		received, last := 0, byte(0)
		for {
			kind, body, err := readMessage(w)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if last = kind; kind == 'd' {
				received += len(body)
			}
		}
		if received != 8<<20 || last != 'Z' {
			t.Errorf("%s: %d bytes came, and last a message %q; want 8 MiB and ReadyForQuery", tls.VersionName(version), received, last)
		}
	}
}

// A client that is gone leaves no query running, however it went.
func TestVanishedClientLeavesNoQueryRunning(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{})
	for name, vanish := range map[string]func(*testing.T, *wire){
		"reset":           func(_ *testing.T, w *wire) { w.socket.SetLinger(0); w.vanish() },
		"without goodbye": func(_ *testing.T, w *wire) { w.vanish() },
		"half a record": func(t *testing.T, w *wire) {
			if _, err := w.socket.Write([]byte{0x17, 3, 3, 0, 100, 1, 2, 3}); err != nil {
				t.Fatal(err)
			}
			w.vanish()
		},
	} {
		t.Run(name, func(t *testing.T) {
			session := p.sleeper(t, s, "vanished_"+fmt.Sprint(len(name)))
			vanish(t, session.wire)
			waitQuery(t, s, session.marker, 0)
		})
	}
	p.waitSessions(t, 0)
	if n := p.log.count(func(e event) bool { return e.text("end") == "client_lost" }); n != 3 {
		t.Errorf("the log has %d lost clients, want 3", n)
	}
}

func TestKilledPsqlLeavesNoQueryRunning(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{})
	command := p.begin(t, pgtest.Client{}, "", "-c", "select pg_sleep(600) as killed_psql")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	waitQuery(t, s, "killed_psql", 1)
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // it was killed
	waitQuery(t, s, "killed_psql", 0)
	p.waitSessions(t, 0)
}

// A COPY that breaks off must not look like one that has ended: nothing of it may be committed.
func TestBrokenCopyIsNotCommitted(t *testing.T) {
	t.Parallel()
	s := server(t)
	s.Query(t, "drop table if exists half_copied; create table half_copied (id int)")
	p := start(t, options{})
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	w.send(t, query("copy half_copied from stdin"))
	if kind, _ := w.message(t); kind != 'G' {
		t.Fatalf("message %q, want CopyInResponse", kind)
	}
	w.send(t, []byte("d\x00\x00\x00\x061\nd\x00\x00\x00\x062\n"))
	w.vanish()
	p.waitSessions(t, 0)
	waitQuery(t, s, "copy half_copied", 0)
	if n := s.Query(t, "select count(*) from half_copied"); n != "0" {
		t.Errorf("%s rows are committed", n)
	}
}

// The server's end reaches the client as it is: what PostgreSQL says when it stops, and a clean end behind it.
func TestServerThatStopsIsReadable(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Options{})
	p := start(t, options{Backend: "unix:" + s.SocketPath})
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if e := w.fatal(t); e.Code != "57P01" || !strings.Contains(e.Message, "administrator command") {
		t.Errorf("the client reads %s %s", e.Code, e.Message)
	}
	text, _ := p.refused(t, "sslmode=prefer")
	if !strings.HasPrefix(text, "FATAL:  the database system is not available") {
		t.Errorf("psql shows %s", text)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	p.succeeds(t, "")
}

// A backend that is killed ends without a word. psql must not take that for an answer.
func TestKilledBackendIsNoCleanEnd(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Options{})
	p := start(t, options{Backend: "unix:" + s.SocketPath})
	command := p.begin(t, pgtest.Client{}, "", "-c", "select pg_sleep(600) as killed_backend")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	waitQuery(t, s, "killed_backend", 1)
	pid, err := strconv.Atoi(s.Query(t, "select pid from pg_stat_activity where query like 'select pg_sleep%killed_backend'"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // its exit code says how it ended
	if command.ProcessState.ExitCode() != 2 || !strings.Contains(stderr.String(), "closed unexpectedly") {
		t.Errorf("psql ended with %v and printed %s", command.ProcessState, stderr.String())
	}
	p.waitSessions(t, 0)
}

// pgbench runs its transactions through the proxy without an error, each with a connection of its own and with lasting ones.
func TestPgbenchRunsWithoutAnError(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Options{})
	p := start(t, options{Backend: "unix:" + s.SocketPath})
	for _, args := range [][]string{{"-i", "-q"}, {"-c", "8", "-t", "50", "-n"}, {"-c", "4", "-t", "10", "-n", "-S", "-C"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
		result, err := pgtest.Client{Program: "pgbench", Env: psqlEnv}.Run(ctx, append(args, p.defaultConninfo())...)
		cancel()
		if err != nil || result.ExitCode != 0 {
			t.Fatalf("pgbench %v: %v, exit code %d: %s", args, err, result.ExitCode, result.Stderr)
		}
	}
	p.waitSessions(t, 0)
	p.waitMetric(t, "pgmtls_unfinished_connections", 0)
}
