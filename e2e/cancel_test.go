package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// cancelled is what psql prints of a query that was.
const cancelled = "ERROR:  canceling statement due to user request"

// interrupt runs a long query in psql, presses Ctrl-C, and wants the query to be cancelled and nothing else.
func interrupt(t *testing.T, p *proxy, s *pgtest.Server, client pgtest.Client, conninfo string) {
	t.Helper()
	marker := fmt.Sprintf("ctrlc_%s_%d", p.port(), time.Now().UnixNano())
	command := p.begin(t, client, conninfo, "-c", "select pg_sleep(600) as "+marker)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	waitQuery(t, s, marker, 1)
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := command.Wait()
	if command.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), cancelled) {
		t.Errorf("psql ended with %v and printed %s", err, stderr.String())
	}
	waitQuery(t, s, marker, 0)
}

func TestControlCInPsqlCancelsTheQuery(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{})
	interrupt(t, p, s, pgtest.Client{}, "")
	p.waitMetric(t, `pgmtls_cancel_requests_total{result="forwarded"}`, 1)
	e := p.log.find(func(e event) bool { return e.text("outcome") == "cancel_forwarded" })
	if e == nil || p.connection(t, e.text("session")).text("outcome") != "served" {
		t.Errorf("the log has %v, want the cancel with the session that it was for", e)
	}
}

// sleeper is a session in a long query.
type sleeper struct {
	*wire
	key    cancelKey
	marker string
}

func (p *proxy) sleeper(t *testing.T, s *pgtest.Server, marker string) sleeper {
	t.Helper()
	w := dial(t, p).negotiate(t, clientTLS("app"))
	key := w.login(t, asPostgres())
	w.send(t, query("select pg_sleep(600) as "+marker))
	waitQuery(t, s, marker, 1)
	return sleeper{w, key, marker}
}

// isCancelled wants the query to end with the error.
func (s sleeper) isCancelled(t *testing.T) {
	t.Helper()
	for {
		kind, body := s.message(t)
		switch {
		case kind == 'E' && bytes.Contains(body, []byte("C57014")):
			return
		case kind == 'E', kind == 'Z':
			t.Fatalf("the query ended with %q %q", kind, body)
		}
	}
}

// Cancels come in plaintext from psql and most drivers, and in TLS from libpq's newer functions.
func TestCancelRequestIsForwardedForItsOwnSessionOnly(t *testing.T) {
	t.Parallel()
	s := server(t)
	wrong := func(key cancelKey) cancelKey {
		secret := bytes.Clone(key.secret)
		secret[0] ^= 1
		return cancelKey{key.pid, secret}
	}
	inTLS := func(client string) func(*testing.T, *wire) {
		return func(t *testing.T, w *wire) { w.negotiate(t, clientTLS(client)) }
	}
	inPlaintext := func(*testing.T, *wire) {}
	elsewhere := cancelKey{1, []byte{1, 2, 3, 4}}
	denied := map[string]struct {
		source string
		begin  func(*testing.T, *wire)
		key    func(cancelKey) cancelKey
	}{
		"from another address":                            {"127.0.0.2", inPlaintext, nil},
		"from another address with another's certificate": {"127.0.0.2", inTLS("other"), nil},
		"with a wrong key":                                {"127.0.0.1", inPlaintext, wrong},
		"with a wrong key in TLS":                         {"127.0.0.1", inTLS("app"), wrong},
		"of a session that is not here":                   {"127.0.0.1", inPlaintext, func(cancelKey) cancelKey { return elsewhere }},
		"with a longer key":                               {"127.0.0.1", inPlaintext, func(k cancelKey) cancelKey { return cancelKey{k.pid, append(bytes.Clone(k.secret), 0)} }},
		"in TLS without a certificate":                    {"127.0.0.1", inTLS(""), nil},
		"in TLS with a stranger's certificate":            {"127.0.0.1", inTLS("stranger"), nil},
	}
	p := start(t, options{})
	session := p.sleeper(t, s, "own_session")
	n := 0.0
	for name, c := range denied {
		key := session.key
		if c.key != nil {
			key = c.key(key)
		}
		w := dialFrom(t, p, c.source)
		c.begin(t, w)
		w.send(t, key.packet())
		w.closed(t)
		n++
		t.Log(name)
		p.waitMetric(t, `pgmtls_cancel_requests_total{result="denied"}`, n)
	}
	waitQuery(t, s, session.marker, 1)

	for name, c := range map[string]struct {
		source string
		begin  func(*testing.T, *wire)
	}{
		"in plaintext":         {"127.0.0.1", inPlaintext},
		"behind a GSS request": {"127.0.0.1", asking(gssRequest, byte('N'))},
		"in TLS":               {"127.0.0.1", inTLS("app")},
		"in direct TLS":        {"127.0.0.1", handshaking(clientTLS("app"))},
		"in TLS, same certificate, from another address": {"127.0.0.2", inTLS("app")},
	} {
		t.Run(name, func(t *testing.T) {
			session := p.sleeper(t, s, "own_"+fmt.Sprint(len(name)))
			w := dialFrom(t, p, c.source)
			c.begin(t, w)
			w.send(t, session.key.packet())
			w.ended(t)
			session.isCancelled(t)
			session.Close()
		})
	}
	session.vanish()
	p.waitSessions(t, 0)
}

// Behind a balancer the session may live on another proxy, whose addresses and keys this one can't know.
func TestAnyCancelIsForwardedWhereTheOperatorSaysSo(t *testing.T) {
	t.Parallel()
	s := server(t)
	one := start(t, options{})
	other := start(t, options{Config: map[string]any{"cancel_requests": "any"}})
	session := one.sleeper(t, s, "any_cancel")
	w := dialFrom(t, other, "127.0.0.2")
	w.send(t, session.key.packet())
	w.ended(t)
	session.isCancelled(t)
	session.Close()

	other.edit(t, nobody)
	w = dial(t, other)
	w.send(t, session.key.packet())
	w.closed(t)
	other.waitMetric(t, `pgmtls_cancel_requests_total{result="denied"}`, 1)
	one.waitSessions(t, 0)
}

// libpq waits for the end of the connection to know that the signal is sent: it must not come before the backend's.
func TestCancelEndsWhenTheBackendsDoes(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T, *wire){
		"plaintext": func(*testing.T, *wire) {},
		"TLS":       func(t *testing.T, w *wire) { w.negotiate(t, clientTLS("app")) },
	} {
		t.Run(name, func(t *testing.T) {
			backend := record(t)
			backend.holdCancels()
			p := start(t, options{Backend: backend.Address})
			session := dial(t, p).negotiate(t, clientTLS("app"))
			session.login(t, asPostgres())

			w := dial(t, p)
			begin(t, w)
			w.send(t, recorderKey.packet())
			got := backend.connection(t, 1, 16).text()
			if !bytes.Equal(got, recorderKey.packet()) {
				t.Errorf("the backend has received %q", got)
			}
			w.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			if n, err := w.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the client's connection gives %d bytes and %v while the backend's is open", n, err)
			}
			w.SetReadDeadline(time.Now().Add(patience))
			backend.release()
			if _, err := io.ReadAll(w.socket); err != nil { // below TLS: a Conn that has timed out stays so
				t.Errorf("the client's connection ends with %v", err)
			}
			session.Close()
		})
	}
}

// Wrong keys are counted against their address, and then even the right one has to wait. They harm no session.
func TestGuessingOfCancelKeysIsStopped(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{})
	session := p.sleeper(t, s, "guessed")
	for i := range 200 {
		w := dial(t, p)
		w.send(t, cancelKey{session.key.pid, []byte{0, 0, 0, byte(i)}}.packet())
		w.closed(t)
		w.Close()
	}
	p.waitMetric(t, `pgmtls_cancel_requests_total{result="denied"}`, 200)
	waitQuery(t, s, session.marker, 1)
	tooMany := func(e event) bool { return e.text("detail") == "too many wrong keys from this client" }
	if p.log.find(tooMany) == nil {
		t.Error("nothing in the log says that there were too many wrong keys")
	}
	session.vanish()
}
