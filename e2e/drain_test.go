package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// drained is an options' config with a drain of its own.
func drained(settings map[string]any) map[string]any { return map[string]any{"drain": settings} }

// waitDraining waits until the proxy says that it drains.
func (p *proxy) waitDraining(t *testing.T) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if err := p.ready(); err == nil || !strings.Contains(err.Error(), "503 Service Unavailable: draining") {
			return fmt.Errorf("/readyz says %v", err)
		}
		return nil
	})
}

// waitClosed waits until nobody listens.
func (p *proxy) waitClosed(t *testing.T) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		conn, err := dialRaw(p)
		if err == nil {
			conn.Close()
			return eventually.ErrNotYet
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		return nil
	})
}

func (p *proxy) isRunning(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended:
		t.Error("the process has ended")
	default:
	}
}

// A psql in the middle of a query gets its answer, and goes on until its transaction ends. Then the process does, with code 0.
func TestDrainWaitsForPsqlToFinish(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{Config: drained(map[string]any{"grace": "1h"})})
	session := p.converse(t)
	if answer := session.ask(t, "begin"); answer != "BEGIN" {
		t.Errorf("psql says %q", answer)
	}
	session.say(t, "select 'finished' from pg_sleep(3) /* drained psql */")
	waitQuery(t, s, "drained psql", 1)

	p.signal(t, syscall.SIGTERM)
	p.waitDraining(t)
	if status := p.status(t); status.Phase != "draining" || status.Ready {
		t.Errorf("/status has the phase %q, ready %v", status.Phase, status.Ready)
	}
	if n := p.metric(t, "pgmtls_draining"); n != 1 {
		t.Errorf("pgmtls_draining is %v", n)
	}
	if _, err := p.get("/livez"); err != nil {
		t.Error(err)
	}
	p.waitClosed(t)
	if answer := session.hear(t); answer != "finished" {
		t.Errorf("psql says %q", answer)
	}
	session.goesOn(t)
	p.isRunning(t)
	if answer := session.ask(t, "commit"); answer != "COMMIT" {
		t.Errorf("psql says %q", answer)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// Whether psql has read by now why its session has ended is a matter of moments.
	session.in.Close()
	if err := session.wait(); err != nil {
		t.Errorf("psql ended with %v: %s", err, session.errors)
	}
	if text := session.errors.String(); text != "" && !strings.HasPrefix(text, "FATAL:  terminating connection due to administrator command") {
		t.Errorf("psql shows %s", text)
	}
}

// Psql in a query, which is cancelled, and psql in a transaction read why their sessions end, and nothing else.
func TestDrainThatExpiresEndsQueriesAndTransactions(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{ExitCode: 3, Config: drained(map[string]any{"grace": "500ms"})})
	idle, busy := p.converse(t), p.converse(t)
	if answer := idle.ask(t, "begin"); answer != "BEGIN" {
		t.Errorf("psql says %q", answer)
	}
	busy.say(t, "select pg_sleep(600) /* cut off */")
	waitQuery(t, s, "cut off", 1)

	p.signal(t, syscall.SIGTERM)
	signalled := time.Now()
	p.wait(t)
	// The grace, and 3 seconds to read the last word.
	if took := time.Since(signalled); took < 500*time.Millisecond || took > patience {
		t.Errorf("the drain took %v", took)
	}
	waitQuery(t, s, "cut off", 0)
	for name, session := range map[string]*conversation{"busy": busy, "idle": idle} {
		if name == "idle" {
			session.say(t, "commit") // psql reads when it next has something to say; a busy one reads
		}
		session.in.Close()
		err := session.wait()
		text, _ := spoken(session.errors.String())
		want := "FATAL:  terminating connection due to administrator command (connection ID)\n" +
			"DETAIL:  The proxy in front of the database is shutting down.\nHINT:  Connect again.\n"
		if err == nil || !strings.HasPrefix(text, want) {
			t.Errorf("the %s psql ends with %v and shows\n%s", name, err, text)
		}
	}
	if n := p.log.count(refusedFor("session_drained")); n != 2 {
		t.Errorf("the log has %d drained sessions", n)
	}
}

// A client that does not read stands in the middle of a message. It can be told nothing, and is cut off: what it has is
// the truth, and then the connection breaks.
func TestDrainThatExpiresCutsWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{ExitCode: 3, Config: drained(map[string]any{"grace": "0s"})})
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	w.send(t, query("select repeat('x', 1000), generate_series(1, 1000000) /* unread */"))
	p.waitStalled(t)
	p.signal(t, syscall.SIGTERM)
	signalled := time.Now()
	p.wait(t)
	if took := time.Since(signalled); took < 3*time.Second {
		t.Errorf("the client had %v to read", took)
	}
	rows := 0
	for {
		kind, _, err := readMessage(w)
		if err != nil {
			if err == io.EOF {
				t.Error("the connection ends as if all were said")
			}
			break
		}
		if kind != 'T' && kind != 'D' {
			t.Fatalf("message %q", kind)
		}
		rows++
	}
	if rows == 0 || rows >= 1000000 {
		t.Errorf("the client could read %d messages", rows)
	}
	waitQuery(t, s, "unread", 0)
}

// waitStalled waits until bytes have come from the server, and no more come.
func (p *proxy) waitStalled(t *testing.T) {
	t.Helper()
	last, since := 0.0, time.Now()
	eventually.OK(t, patience, func() error {
		n := p.metric(t, `pgmtls_bytes_total{direction="to_client"}`)
		if n != last {
			last, since = n, time.Now()
		}
		if last == 0 || time.Since(since) < 500*time.Millisecond {
			return fmt.Errorf("%v bytes have passed", n)
		}
		return nil
	})
}

// A second signal does not wait for the grace, and psql's query is cancelled even then.
func TestSecondSignalEndsAQueryNow(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{ExitCode: 3, Config: drained(map[string]any{"grace": "1h"})})
	busy := p.begin(t, pgtest.Client{}, "", "-c", "select pg_sleep(600) /* second signal */")
	must.OK(t, busy.Start())
	waitQuery(t, s, "second signal", 1)
	p.signal(t, syscall.SIGTERM)
	p.waitDraining(t)
	p.signal(t, syscall.SIGTERM)
	signalled := time.Now()
	p.wait(t)
	if took := time.Since(signalled); took > patience {
		t.Errorf("the end took %v", took)
	}
	if err := busy.Wait(); err == nil {
		t.Error("psql succeeded")
	}
	waitQuery(t, s, "second signal", 0)
}

// In the delay the proxy says that it goes, and serves as before: a balancer needs the time to notice.
func TestReadyDelayKeepsAccepting(t *testing.T) {
	t.Parallel()
	const delay = 3 * time.Second
	server(t)
	p := start(t, options{Config: drained(map[string]any{"grace": "1h", "ready_delay": delay.String()})})
	p.signal(t, syscall.SIGTERM)
	signalled := time.Now()
	p.waitDraining(t)
	visits := 0
	eventually.OK(t, patience, func() error {
		began := time.Now()
		_, err := p.visit(clientTLS("app"))
		switch {
		case err == nil:
			visits++
			return eventually.ErrNotYet
		case began.Before(signalled.Add(delay - 200*time.Millisecond)):
			t.Fatalf("a client that came after %v is refused: %v", began.Sub(signalled), err)
		}
		return nil
	})
	if visits == 0 {
		t.Error("nobody was served in the delay")
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(signalled); took < delay-200*time.Millisecond {
		t.Errorf("the delay was over after %v", took)
	}
}

// Where nobody is cut off, the end is a clean one, however impatient.
func TestDrainWithNobodyLeftIsClean(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T) *proxy{
		"second signal in the delay": func(t *testing.T) *proxy {
			p := start(t, options{Config: drained(map[string]any{"ready_delay": "10m"})})
			p.signal(t, syscall.SIGTERM)
			p.waitDraining(t)
			p.signal(t, os.Interrupt)
			return p
		},
		"no grace": func(t *testing.T) *proxy {
			p := start(t, options{Config: drained(map[string]any{"grace": "0s"})})
			p.signal(t, os.Interrupt)
			return p
		},
		"somebody who has said nothing yet": func(t *testing.T) *proxy {
			p := start(t, options{Config: drained(map[string]any{"grace": "100ms"})})
			w := dial(t, p)
			w.ask(t, gssRequest, 'N')
			p.signal(t, syscall.SIGTERM)
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if p := begin(t); p.wait(t) != 0 {
				t.Errorf("the process ended with %v:\n%s", p.command.ProcessState, p.log.tail())
			}
		})
	}
}
