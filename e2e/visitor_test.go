package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// toldError is a refusal that a visitor could read.
type toldError struct{ *pgproto3.ErrorResponse }

func (e toldError) Error() string { return e.Code + ": " + e.Message }

// visit logs in, says goodbye and gives the server certificate that it was shown. It may be called from any goroutine.
func (p *proxy) visit(config *tls.Config) (shown *x509.Certificate, _ error) {
	conn, err := dialRaw(p)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(sslRequest); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, fmt.Errorf("the answer to SSLRequest is %q", answer[0])
	}
	client := tls.Client(conn, config)
	if err := client.Handshake(); err != nil {
		return nil, err
	}
	defer client.Close()
	return client.ConnectionState().PeerCertificates[0], logInAndOut(client)
}

func logInAndOut(client *tls.Conn) error {
	if _, err := client.Write(asPostgres()); err != nil {
		return err
	}
	for {
		kind, body, err := readMessage(client)
		switch {
		case err != nil:
			return err
		case kind == 'E':
			told := toldError{&pgproto3.ErrorResponse{}}
			return errors.Join(told.Decode(body), told)
		case kind == 'Z':
			_, err := client.Write(goodbye)
			return err
		}
	}
}

// goodbye is the message Terminate.
var goodbye = []byte{'X', 0, 0, 0, 4}

// comesIn and staysOut fail the test unless a visitor with the certificate is served, or is told no with the words.
func (p *proxy) comesIn(t testing.TB, client string) *x509.Certificate {
	t.Helper()
	shown, err := p.visit(clientTLS(client))
	if err != nil {
		t.Fatalf("the client %q is refused: %v", client, err)
	}
	return shown
}

func (p *proxy) staysOut(t testing.TB, client, words string) {
	t.Helper()
	_, err := p.visit(clientTLS(client))
	if err == nil {
		t.Fatalf("the client %q comes in", client)
	}
	told, ok := errors.AsType[toldError](err)
	if !ok || !strings.Contains(told.Message+told.Detail, words) {
		t.Fatalf("the client %q is told %v, want %q", client, err, words)
	}
}

// verdictTime visits until the verdict on the usual client is as wanted, and gives the time since the beginning.
func (p *proxy) verdictTime(t testing.TB, since time.Time, allowed bool) time.Duration {
	t.Helper()
	eventually.OK(t, patience, func() error {
		_, err := p.visit(clientTLS("app"))
		switch {
		case allowed:
			return err
		case err == nil:
			return errors.New("the client still comes in")
		}
		return nil
	})
	return time.Since(since)
}

// median of a list that is not empty.
func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// conversation is a psql that stays connected, with somebody who types.
type conversation struct {
	in      io.WriteCloser
	out     *os.File // the reading end of a pipe
	lines   *bufio.Reader
	errors  *strings.Builder
	backend string // the process id of its server process: the same for as long as the session lives
	wait    func() error
}

// converse starts psql and returns when its session is there.
func (p *proxy) converse(t testing.TB) *conversation {
	t.Helper()
	command := p.begin(t, pgtest.Client{}, "")
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	c := &conversation{in: in, out: out, lines: bufio.NewReader(out), errors: &strings.Builder{}, wait: command.Wait}
	command.Stdout, command.Stderr = write, c.errors
	err = command.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.backend = c.ask(t, "select pg_backend_pid()")
	return c
}

// say types a statement.
func (c *conversation) say(t testing.TB, sql string) {
	t.Helper()
	if _, err := io.WriteString(c.in, sql+";\n"); err != nil {
		t.Fatalf("type into psql: %v", err)
	}
}

// hear reads one line.
func (c *conversation) hear(t testing.TB) string {
	t.Helper()
	c.out.SetReadDeadline(time.Now().Add(patience))
	line, err := c.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("psql says nothing more: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// ask types a statement whose answer is one line.
func (c *conversation) ask(t testing.TB, sql string) string {
	t.Helper()
	c.say(t, sql)
	return c.hear(t)
}

// goesOn wants that the session is the one that it was.
func (c *conversation) goesOn(t testing.TB) {
	t.Helper()
	if backend := c.ask(t, "select pg_backend_pid()"); backend != c.backend {
		t.Fatalf("the session has another server process: %s, not %s", backend, c.backend)
	}
}

// leave ends psql, which must not have met an error.
func (c *conversation) leave(t testing.TB) {
	t.Helper()
	c.in.Close()
	if err := c.wait(); err != nil || c.errors.Len() > 0 {
		t.Errorf("psql ended with %v: %s", err, c.errors)
	}
}
