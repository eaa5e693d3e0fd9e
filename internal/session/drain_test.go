package session

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

var shuttingDown = refusal.New(refusal.SessionDrained, "The proxy is shutting down.")

// A drain refuses new sessions before it tells those that are there. Whoever enters at the same time is one or the other.
func TestNoSessionSlipsThroughADrain(t *testing.T) {
	for range 200 {
		table := newTable(0, 0)
		server := &Server{table: table}
		var entered sync.Map
		var entering sync.WaitGroup
		for range 8 {
			entering.Go(func() {
				c := &connection{server: server, addr: home}
				if refused := table.enter(c); refused == nil {
					entered.Store(c, true)
				} else if refused.Reason != refusal.Draining {
					t.Errorf("refused for %v", refused)
				}
			})
		}
		table.Drain()
		table.Stop(relay.OutsideTransaction, shuttingDown)
		entering.Wait()
		entered.Range(func(c, _ any) bool {
			if c.(*connection).stopped != shuttingDown {
				t.Error("a session entered and was not told")
			}
			return true
		})
	}
}

// scripted plays a server that answers queries with the given states of transaction, and one more only when it is
// cancelled.
func (w *world) scripted(states string) {
	cancelled := make(chan struct{})
	w.database.cancel = func() error { close(cancelled); return nil }
	w.database.play = func(conn net.Conn) {
		readPacket(conn, 0)
		io.WriteString(conn, loginAnswer)
		for _, state := range states {
			readPacket(conn, 1)
			io.WriteString(conn, message('C', "OK\x00")+message('Z', string(state)))
		}
		readPacket(conn, 1)
		<-cancelled
		io.WriteString(conn, wasCancelled)
		io.Copy(io.Discard, conn)
	}
}

var wasCancelled = message('E', "SERROR\x00C57014\x00Mcanceling statement due to user request\x00\x00") + message('Z', "I")

// What counts as cut off is a query or a transaction, not a session that waits for its client.
func TestBusySessionsAreThoseWithSomethingToLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.scripted("TEI")
		login := make(chan struct{})
		w.database.refuse = func(context.Context) error { <-login; return nil }
		table := w.sessions.Table()
		began := time.Now().Add(-time.Second)
		expect := func(what string, sessions, startingUp, busy int) {
			t.Helper()
			synctest.Wait()
			if table.Len() != sessions || table.StartingUp(began) != startingUp || table.Busy() != busy {
				t.Errorf("%s: %d sessions, %d starting up, %d busy, want %d, %d and %d",
					what, table.Len(), table.StartingUp(began), table.Busy(), sessions, startingUp, busy)
			}
			if n := table.StartingUp(time.Now()); n != 0 {
				t.Errorf("%s: %d are waited for that came before", what, n)
			}
		}
		expect("nobody", 0, 0, 0)
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		expect("in its login", 1, 1, 0)
		close(login)
		c.want(loginAnswer)
		expect("logged in, and nothing asked", 1, 1, 0)
		for _, step := range []struct {
			what, answer string
			busy         int
		}{
			{"in a transaction", "T", 1},
			{"in a failed one", "E", 1},
			{"behind it", "I", 0},
		} {
			c.send(query)
			c.want(message('C', "OK\x00") + message('Z', step.answer))
			expect(step.what, 1, 0, step.busy)
		}
		c.send(query)
		expect("in a query", 1, 0, 1)
		w.sessions.CancelQueries(t.Context())
		c.want(wasCancelled)
		expect("cancelled", 1, 0, 0)
		c.leave()
		w.wait()
		expect("gone", 0, 0, 0)
	})
}

// Told to stop and cancelled, a client reads why its session ends in place of an error for a cancel that it never asked for.
func TestCancelledClientReadsWhyItsSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.scripted("")
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		synctest.Wait()
		w.sessions.Table().Stop(relay.OutsideTransaction, shuttingDown)
		w.sessions.Table().Stop(relay.WhenIdle, shuttingDown)
		w.sessions.CancelQueries(t.Context())
		c.wantFatal("57P01", "terminating connection due to administrator command")
		c.leave()
	})
}
