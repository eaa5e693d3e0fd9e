package e2e

import (
	"bytes"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// The rest of a login comes too late: inside TLS the client is told, before it there is no way to.
func TestStartupTimeoutIsToldInTLSAndSilentBefore(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address, Config: map[string]any{"limits": map[string]any{"startup_timeout": "500ms"}}})
	packet := asPostgres()
	late := func(begin func(*testing.T, *wire)) *wire {
		w := dial(t, p)
		begin(t, w)
		return w
	}
	inTLS := func(t *testing.T, w *wire) { w.negotiate(t, clientTLS("app")) }
	for name, w := range map[string]*wire{
		"nothing inside":   late(inTLS),
		"half a packet":    late(then(inTLS, sending(packet[:20]))),
		"direct, no bytes": late(handshaking(clientTLS("app"))),
	} {
		e := w.fatal(t)
		if e.Code != "57014" || withoutID(e.Message) != "canceling authentication due to timeout" {
			t.Errorf("%s: the client reads %s %s", name, e.Code, e.Message)
		}
	}
	for _, w := range []*wire{
		late(func(*testing.T, *wire) {}),
		late(sending(sslRequest[:5])),
		late(asking(gssRequest, byte('N'))),
		late(asking(sslRequest, byte('S'))),
		late(then(asking(sslRequest, byte('S')), sending([]byte{0x16, 3, 1, 2, 0}))), // the begin of a ClientHello
		late(sending(packet[:20])),
		late(sending(recorderKey.packet()[:12])),
	} {
		w.closed(t)
		w.vanish()
	}
	p.waitMetric(t, `pgmtls_refusals_total{reason="startup_timeout"}`, 10)
	backend.untouched(t)
}

// A session that is in has no deadline: what is late there is a long query.
func TestStartupTimeoutEndsWithTheLogin(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{Config: map[string]any{"limits": map[string]any{"startup_timeout": "3s"}}})
	result := p.psql(t, "", "-c", "select pg_sleep(4)", "-c", querySQL)
	if result.Stdout != "\n"+queryAnswer {
		t.Errorf("psql printed %q %s", result.Stdout, result.Stderr)
	}
}

// A client may have sent its first queries before it reads that it is refused. What it has sent is taken and dropped:
// a connection that is closed with unread input is reset, which can eat the message.
func TestFatalReachesAClientThatHasSentDataAhead(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address})
	packet := query("select '" + canarySQL + "'")
	for range 10 {
		w := dial(t, p).negotiate(t, clientTLS(""))
		flight := append(asPostgres(), bytes.Repeat(packet, 900_000/len(packet))...)
		sent := make(chan error, 1)
		go func() {
			_, err := w.Write(flight)
			sent <- err
		}()
		kind, body := w.message(t)
		if kind != 'E' || !bytes.Contains(body, []byte(invalidCertificate)) {
			t.Errorf("the client reads %q %q", kind, body)
		}
		if err := <-sent; err != nil {
			t.Errorf("the flight is not taken: %v", err)
		}
		if _, err := io.ReadAll(w.socket); err != nil {
			t.Errorf("the connection ends with %v", err)
		}
		// A reset shows here, below TLS; behind the server's FIN, reads don't tell.
		if _, err := w.socket.Write([]byte{0}); err != nil {
			t.Errorf("the connection was reset: %v", err)
		}
		w.vanish()
	}
	backend.untouched(t)
}

// Without a policy there is no certificate to do TLS with, so libpq shows no text. It is a code that makes libpq try
// another host.
func TestWithoutAPolicyNobodyComesIn(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address, PolicyText: "generation: [\n"})
	if err := p.ready(); err == nil || !strings.Contains(err.Error(), "policy.yaml:") {
		t.Errorf("/readyz says %v, want what is wrong in policy.yaml", err)
	}
	for _, begin := range [][]byte{sslRequest, asPostgres()} {
		w := dial(t, p)
		w.send(t, begin)
		if e := w.fatal(t); e.Code != "57P03" || withoutID(e.Message) != "the database system is not accepting connections" {
			t.Errorf("the client reads %s %s", e.Code, e.Message)
		}
	}
	if text, _ := p.refused(t, ""); !strings.Contains(text, "SSL exchange") {
		t.Errorf("psql shows %s", text)
	}

	// The first good one is taken as it comes.
	p.policy.Generation = "7"
	p.writePolicy(t)
	p.waitGeneration(t, "8")
	eventually.OK(t, patience, p.ready)
	dial(t, p).negotiate(t, clientTLS("app")).login(t, asPostgres())
}

// Denied addresses are answered only so often. Beyond that, their connections end without a word and cost no handshake.
func TestFloodOfStrangersIsDropped(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address, Policy: nobody})
	answered := 0
	for range 60 {
		w := dial(t, p)
		// The answer, or a connection that ends or breaks off.
		_, _ = w.Write(asPostgres())
		if text, _ := io.ReadAll(w); len(text) > 0 {
			answered++
		}
		w.Close()
	}
	if answered < 20 || answered > 40 {
		t.Errorf("%d of 60 were answered", answered)
	}
	if dropped := p.refusals(t, "address_shed"); dropped != float64(60-answered) {
		t.Errorf("%v were counted as dropped, want %d", dropped, 60-answered)
	}
	backend.untouched(t)
}

// asked is a session in a query that the recorder never answers.
func (r *recorder) asked(t testing.TB, p *proxy) *wire {
	t.Helper()
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	sql := query("select 1")
	w.send(t, sql)
	r.connection(t, 0, len(asPostgres())+len(sql))
	return w
}

// SIGTERM lets queries finish, and who is halfway in is told to come again.
func TestDrainLetsQueriesFinish(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address})
	session := backend.asked(t, p)
	halfway := dial(t, p).negotiate(t, clientTLS("app"))

	p.signal(t, syscall.SIGTERM)
	eventually.OK(t, patience, func() error {
		conn, err := dialRaw(p)
		if err == nil {
			conn.Close()
			return eventually.ErrNotYet
		}
		return nil
	})
	halfway.send(t, asPostgres())
	if e := halfway.fatal(t); e.Code != "57P03" || withoutID(e.Message) != "the database system is shutting down" {
		t.Errorf("the late client reads %s %s", e.Code, e.Message)
	}
	select {
	case <-p.ended:
		t.Error("the process ended with a query in it")
	default:
	}
	session.Close()
	p.wait(t) // the exit code is checked at the test's end, as always: 0
}

// wantDrained wants that a client is told why its session has ended.
func (w *wire) wantDrained(t testing.TB) (id string) {
	t.Helper()
	e := w.fatal(t)
	if e.Code != "57P01" || withoutID(e.Message) != "terminating connection due to administrator command" {
		t.Errorf("the client reads %s %s", e.Code, e.Message)
	}
	if e.Detail != "The proxy in front of the database is shutting down." || e.Hint != "Connect again." {
		t.Errorf("the client reads %q, %q", e.Detail, e.Hint)
	}
	return idOf(t, e.Message)
}

// Nobody loses anything by the end of a session that is idle outside of a transaction: no grace is waited for, and the
// exit is clean.
func TestDrainEndsIdleSessionsAtOnce(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address, Config: map[string]any{"drain": map[string]any{"grace": "1h"}}})
	session := dial(t, p).negotiate(t, clientTLS("app"))
	session.login(t, asPostgres())
	p.signal(t, syscall.SIGTERM)
	id := session.wantDrained(t)
	p.wait(t)
	if logged := p.connection(t, id); logged.text("outcome") != "served" || logged.text("refusal") != "session_drained" {
		t.Errorf("the log has %v", logged)
	}
}

// Who is in a transaction is told after the grace, and the exit code says that something was lost.
func TestDrainThatExpiresTellsTheSessions(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{ExitCode: 3, Config: map[string]any{"drain": map[string]any{"grace": "300ms"}}})
	session := dial(t, p).negotiate(t, clientTLS("app"))
	session.login(t, asPostgres())
	session.begins(t)
	p.signal(t, syscall.SIGTERM)
	session.wantDrained(t)
	p.wait(t)
}

// begins begins a transaction.
func (w *wire) begins(t testing.TB) {
	t.Helper()
	w.send(t, query("begin"))
	for kind := byte(0); kind != 'Z'; {
		kind, _ = w.message(t)
	}
}

func TestSecondSignalEndsNow(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address, ExitCode: 3, Config: map[string]any{"drain": map[string]any{"grace": "1h"}}})
	session := backend.asked(t, p)
	p.signal(t, syscall.SIGTERM)
	p.waitDraining(t)
	p.signal(t, os.Interrupt)
	session.wantDrained(t)
	p.wait(t)
}
