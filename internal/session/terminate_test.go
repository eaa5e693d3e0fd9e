package session

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

// scripted is a server that answers what it is told to.
type scripted struct {
	login, answer string
	ending        string // after the first cancel that it heeds
	deaf          int    // cancels that it does not heed
}

// install makes the world's database play the script. Cancels are for its first session.
func (s scripted) install(w *world) {
	cancelled := make(chan struct{}, 100)
	w.database.cancel = func() error { cancelled <- struct{}{}; return nil }
	var first sync.Once
	w.database.play = func(conn net.Conn) {
		readPacket(conn, 0)
		// Before the login is written: whoever reads it may open the second session.
		first.Do(func() { go s.heed(conn, cancelled) })
		io.WriteString(conn, s.login)
		for {
			packet, err := readPacket(conn, 1)
			if err != nil || packet[0] == 'X' {
				return
			}
			if packet[0] == 'Q' {
				io.WriteString(conn, s.answer)
			}
		}
	}
	w.t.Cleanup(func() { close(cancelled) })
}

func (s scripted) heed(conn net.Conn, cancelled <-chan struct{}) {
	for range cancelled {
		if s.deaf--; s.deaf < 0 {
			io.WriteString(conn, s.ending)
			return
		}
	}
}

// wherever are the places in the protocol at which a session can be when its permission goes. Each reads the given bytes,
// then why, not later than the given time after the change.
var wherever = map[string]struct {
	server scripted
	asks   bool   // a query
	reads  string // of its answer, before the change
	within time.Duration
	kills  int // cancels that the server gets
}{
	"idle":                  {server: scripted{login: loginAnswer}},
	"idle in a transaction": {server: scripted{login: loginAnswer, answer: message('C', "BEGIN\x00") + message('Z', "T")}, asks: true, reads: message('C', "BEGIN\x00") + message('Z', "T")},
	"in the login":          {server: scripted{login: message('R', "\x00\x00\x00\x03")}, reads: ""},
	"in a query": {server: scripted{login: loginAnswer, ending: message('E', "SERROR\x00C57014\x00\x00") + message('Z', "I")},
		asks: true, kills: 1},
	"in a query that needs two cancels": {server: scripted{login: loginAnswer, deaf: 1, ending: message('E', "SERROR\x00C57014\x00\x00") + message('Z', "I")},
		asks: true, within: cancelAgain, kills: 2},
	"in COPY out": {server: scripted{login: loginAnswer, answer: message('H', "\x00\x00\x00") + message('d', "row"), ending: message('E', "SERROR\x00C57014\x00\x00") + message('Z', "I")},
		asks: true, reads: message('H', "\x00\x00\x00") + message('d', "row"), kills: 1},
	// PostgreSQL takes no notice of a cancel while it waits for the client's rows.
	"in COPY in": {server: scripted{login: loginAnswer, answer: message('G', "\x00\x00\x00"), deaf: 100},
		asks: true, reads: message('G', "\x00\x00\x00"), within: 5*time.Second - lastWord, kills: 5},
}

func TestSessionEndsWhereverItStands(t *testing.T) {
	for name, row := range wherever {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				row.server.install(w)
				defer w.sweeping()()
				c := w.connect(home)
				c.handshake(pki().app)
				c.send(startupPacket("user", "app"))
				c.want(row.server.login)
				if row.asks {
					c.send(query)
				}
				c.want(row.reads)
				other := w.connect(office)
				other.handshake(pki().app)
				other.send(startupPacket("user", "app"))
				other.want(row.server.login)
				synctest.Wait()

				changed := time.Now()
				w.apply("2", officeIn)
				answer := c.wantFatal("57P01", "terminating connection due to administrator command")
				if want := "No IP rule allows the address 203.0.113.7 any more."; answer.Detail != want {
					t.Errorf("detail is %q, want %q", answer.Detail, want)
				}
				if took := time.Since(changed); took != row.within {
					t.Errorf("the session ends %v after the change, want %v", took, row.within)
				}
				c.leave()
				synctest.Wait()
				if n := len(w.database.cancelled()); n != row.kills {
					t.Errorf("the server gets %d cancels, want %d", n, row.kills)
				}
				if w.refused("session_forbidden") != 1 || len(w.sessions.table.sessions) != 1 {
					t.Error("not counted once, or another session is gone")
				}
				other.leave()
			})
		})
	}
}

// What neither ends its query nor stands between two messages has its sockets closed when the grace is over.
func TestSessionThatIgnoresEverythingIsClosedAtTheEndOfTheGrace(t *testing.T) {
	for grace, want := range map[string]time.Duration{"5s": 5 * time.Second, "1m": time.Minute, "100ms": 100 * time.Millisecond, "0s": 0} {
		t.Run(grace, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				server := scripted{login: loginAnswer, answer: message('d', "half")[:6], deaf: 1000}
				server.install(w)
				defer w.sweeping()()
				c := w.connect(home)
				c.login(pki().app, "app")
				c.send(query)
				c.want(server.answer)
				changed := time.Now()
				w.apply("2", officeIn, "end_grace: "+grace)
				if rest, err := io.ReadAll(c.tls); len(rest) > 0 {
					t.Errorf("the client reads %q, %v; want nothing in the middle of a message", rest, err)
				}
				if took := time.Since(changed); took != want {
					t.Errorf("closed %v after the change, want %v", took, want)
				}
				c.leave()
				w.wait()
				if w.last()["end"] != "aborted" && !strings.Contains(w.journal.text(), `"end":"aborted"`) {
					t.Errorf("logged as %v", w.last())
				}
			})
		})
	}
}

// A dial can take as long as the startup timeout. A session that is no longer allowed does not wait for it, and its end
// says nothing against the backend.
func TestDialIsGivenUpWhenTheSessionMustEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.database.refuse = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		defer w.sweeping()()
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		synctest.Wait()
		changed := time.Now()
		w.apply("2", officeIn)
		c.forbidden("No IP rule allows the address 203.0.113.7 any more.")
		if took := time.Since(changed); took != 0 {
			t.Errorf("the session ends %v after the change", took)
		}
		c.leave()
		<-c.over
		synctest.Wait()
		if w.metric("backend_dial_errors_total") != 0 || w.refused("session_forbidden") != 1 || w.refused("backend_unavailable") != 0 {
			t.Error("the backend is blamed, or the end not counted")
		}
		if r := w.newest(); r.InForceAt.IsZero() {
			t.Errorf("the receipt is %+v", r)
		}
	})
}

// A drain lets sessions finish their transaction. One whose permission goes meanwhile does not get that time.
func TestSweepEndsASessionThatIsDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		server := scripted{login: loginAnswer, answer: message('C', "BEGIN\x00") + message('Z', "T")}
		server.install(w)
		defer w.sweeping()()
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		c.want(server.answer)
		w.sessions.Table().Stop(relay.OutsideTransaction, refusal.New(refusal.SessionDrained, "The proxy is shutting down."))
		synctest.Wait()
		w.apply("2", officeIn)
		c.wantFatal("57P01", "terminating connection due to administrator command")
		c.leave()
		w.wait()
		if r := w.newest(); r.Ended[refusal.AddressNotAllowed] != 1 || r.InForceAt.IsZero() {
			t.Errorf("the receipt is %+v", r)
		}
	})
}

// One that was told to end does so, although the next policy would allow it again: its client may have been told already.
func TestSessionThatWasToldToEndIsNotTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		server := scripted{login: loginAnswer, deaf: 100}
		server.install(w)
		defer w.sweeping()()
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		synctest.Wait()
		w.apply("2", officeIn)
		synctest.Wait()
		w.apply("3", bothIn)
		synctest.Wait()
		if r := w.newest(); r.Generation != "3" || r.Kept != 0 || !r.InForceAt.IsZero() {
			t.Errorf("while the session lives the receipt is %+v", r)
		}
		c.forbidden("No IP rule allows the address")
		c.leave()
		w.wait()
		for _, r := range w.sessions.Receipts() {
			if r.InForceAt.IsZero() {
				t.Errorf("the receipt is %+v", r)
			}
		}
	})
}

// Nothing of a session that was told to end outlives it, however long the grace.
func TestNothingOutlivesASessionThatWasToldToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		stop := w.sweeping()
		c := w.connect(home)
		c.login(pki().app, "app")
		w.apply("2", officeIn, "end_grace: 10m")
		c.forbidden("No IP rule allows the address")
		c.leave()
		began := time.Now()
		w.wait()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("something waits for %v", took)
		}
		if n := len(w.sessions.admission.ownCancels); n != 0 {
			t.Errorf("%d cancels are left", n)
		}
	})
}

// newest is the receipt of the last change.
func (w *world) newest() Receipt {
	w.t.Helper()
	receipts := w.sessions.Receipts()
	if len(receipts) == 0 {
		w.t.Fatal("there is no receipt")
	}
	return receipts[len(receipts)-1]
}
