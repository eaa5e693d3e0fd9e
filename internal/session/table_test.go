package session

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

// tooMany is what a full proxy says; how many that are is nobody's business.
const tooMany = "sorry, too many clients already"

func TestSessionsAreBounded(t *testing.T) {
	for name, row := range map[string]struct {
		limit  func(*Config)
		reason string
	}{
		"in all":           {func(c *Config) { c.MaxSessions = 2 }, "too_many_sessions"},
		"from one address": {func(c *Config) { c.MaxSessionsPerAddress = 2 }, "too_many_sessions_from_address"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, row.limit)
				first, second := w.connect(home), w.connect(home)
				first.login(pki().app, "app")
				second.login(pki().app, "app")
				third := w.connect(home)
				third.handshake(pki().app)
				third.send(startupPacket("user", "app"))
				third.wantFatal("53300", tooMany)
				third.leave()
				<-third.over
				if w.refused(row.reason) != 1 || w.database.dials != 2 {
					t.Errorf("%d refused, %d dialled; want 1 and 2", w.refused(row.reason), w.database.dials)
				}
				elsewhere := w.connect(office)
				elsewhere.handshake(pki().app)
				elsewhere.send(startupPacket("user", "app"))
				if row.reason == "too_many_sessions" {
					elsewhere.wantFatal("53300", tooMany)
				} else {
					elsewhere.want(loginAnswer)
				}
				elsewhere.leave()

				first.leave()
				synctest.Wait()
				fourth := w.connect(home)
				fourth.login(pki().app, "app")
				fourth.leave()
				second.leave()
			})
		})
	}
}

func TestDrainingTableRefusesNewSessionsAndKeepsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		old := w.connect(home)
		old.login(pki().app, "app")
		w.sessions.Table().Drain()
		late := w.connect(home)
		late.handshake(pki().app)
		late.send(startupPacket("user", "app"))
		late.wantFatal("57P03", "the database system is shutting down")
		late.leave()
		old.send(query)
		old.want(queryAnswer)
		old.leave()
	})
}

func TestStopTellsEachSessionWhyAtAMessageBoundary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.login(pki().app, "app")
		w.sessions.Table().Stop(relay.AtBoundary, refusal.New(refusal.SessionDrained, "The proxy is shutting down."))
		answer := c.wantFatal("57P01", "terminating connection due to administrator command")
		if answer.Detail != "The proxy is shutting down." {
			t.Errorf("detail is %q", answer.Detail)
		}
		c.leave()
		w.wait()
		if e := w.last(); e["end"] != "stopped" || e["refusal"] != "session_drained" || w.refused("session_drained") != 1 {
			t.Errorf("logged as %v", e)
		}
	})
}

// A session that is told to end while it dials ends as soon as its script comes to it.
func TestStopReachesASessionThatIsStillDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		hold := make(chan struct{})
		w.database.refuse = func(context.Context) error { <-hold; return nil }
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		synctest.Wait()
		w.sessions.Table().Stop(relay.AtBoundary, refusal.New(refusal.SessionDrained, "The proxy is shutting down."))
		close(hold)
		c.wantFatal("57P01", "terminating connection due to administrator command")
		c.leave()
		<-c.over
		if w.refused("session_drained") != 1 || len(w.sessions.Table().Sessions()) != 0 {
			t.Error("not counted once, or still in the table")
		}
	})
}

func TestAbortEndsSessionsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.login(pki().app, "app")
		w.sessions.Table().Abort()
		w.wait()
		if w.last()["end"] != "aborted" {
			t.Errorf("logged as %v", w.last())
		}
		c.leave()
	})
}

// The step between the gate and the table is where a change of the policy could slip through. The steps are called one
// by one here, with the change in between.
func TestPolicyThatMovesBehindTheVerdictIsAskedAgain(t *testing.T) {
	w := newWorld(t, nil)
	authorized := func() *connection {
		c := w.enterable()
		if err := c.authorize(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	optional := "client_auth: optional\nclient_ca: [ca.pem]"
	w.apply("2", bothIn, optional)

	kept := authorized()
	w.apply("3", bothIn, optional, "revoked: ['01']")
	if err := kept.enter(); err != nil || kept.granted().Generation != "3" || kept.snap.Generation != "3" {
		t.Errorf("a session that both policies allow: %v, granted by generation %s", err, kept.granted().Generation)
	}
	kept.end(errDone)

	for name, lines := range map[string][]string{
		"the rule is gone":          {officeIn, optional},
		"a certificate is required": {bothIn},
	} {
		w.apply("4", bothIn, optional)
		c := authorized()
		w.apply("5", lines...)
		err := c.enter()
		if err == nil {
			t.Errorf("%s, and the session enters", name)
		}
		c.end(err)
	}
	if n := len(w.sessions.table.sessions); n != 0 {
		t.Errorf("%d sessions are left in the table", n)
	}
	w.database.untouched()
}

// Sessions that open while their rule goes: each one is found by the sweep behind the change, or finds the change.
func TestNoSessionSlipsThroughBetweenAChangeAndItsSweep(t *testing.T) {
	w := newWorld(t, nil)
	optional := "client_auth: optional\nclient_ca: [ca.pem]"
	why := refusal.New(refusal.SessionForbidden, "The rule is gone.")
	for range 20 {
		w.apply("with", bothIn, optional)
		var coming sync.WaitGroup
		for range 3 {
			coming.Go(func() {
				for err := error(nil); err == nil; {
					c := w.enterable()
					if err = c.authorize(); err == nil {
						err = c.enter()
					}
					if err != nil {
						c.end(err)
					}
				}
			})
		}
		w.apply("without", officeIn, optional)
		w.sessions.Table().Stop(relay.AtBoundary, why) // the sweep
		coming.Wait()
		entered := w.sessions.Table().list()
		for _, c := range entered {
			if c.stopped == nil {
				t.Errorf("of %d sessions, one of generation %q slipped through", len(entered), c.granted().Generation)
			}
			c.end(c.stopped)
		}
	}
}

// enterable is a connection that has sent its startup packet.
func (w *world) enterable() *connection {
	_, far := newWire(home)
	far.Close()
	w.sessions.serving.add()
	w.sessions.config.Metrics.ConnectionOpened()
	c := newConnection(w.sessions, far)
	c.startup = &pgwire.Startup{User: "app", Database: "app"}
	return c
}

func TestNewerSessionHasTheProcessID(t *testing.T) {
	table := newTable(0, 0)
	old, young := &connection{addr: home}, &connection{addr: home}
	table.enter(old)
	table.enter(young)
	key := pgwire.Key{PID: 7, Secret: []byte("old!")}
	table.learn(old, key)
	table.learn(young, pgwire.Key{PID: 7, Secret: []byte("new!")})
	if table.owner(key) != nil {
		t.Error("the key of a server process that has ended is still good")
	}
	table.leave(old)
	if table.owner(pgwire.Key{PID: 7, Secret: []byte("new!")}) != young {
		t.Error("the end of the old session took the young one's key")
	}
	table.leave(young)
	table.leave(young)
	table.learn(young, key)
	if len(table.keys)+len(table.sessions)+len(table.addresses) != 0 {
		t.Errorf("left: %v %v %v", table.keys, table.sessions, table.addresses)
	}
}

func TestServerThatSendsManyKeysFillsNoTable(t *testing.T) {
	table := newTable(0, 0)
	c := &connection{addr: home}
	table.enter(c)
	for pid := range uint32(1000) {
		table.learn(c, pgwire.Key{PID: pid, Secret: []byte("abcd")})
	}
	if len(table.keys) != 1 || table.owner(pgwire.Key{PID: 999, Secret: []byte("abcd")}) != c {
		t.Errorf("the table holds %d keys, want the last one", len(table.keys))
	}
}

func TestSessionsShowWhoIsConnectedAndHow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.database.play = func(conn net.Conn) {
			readPacket(conn, 0)
			conn.Write([]byte(message('R', "\x00\x00\x00\x03")))
			readPacket(conn, 1)
			conn.Write([]byte(message('Z', "I")))
			readPacket(conn, 1)
			conn.Write([]byte(message('Z', "T")))
			readPacket(conn, 1)
			conn.Write([]byte(message('Z', "E")))
			readPacket(conn, 1)
		}
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "a\x1bpp"))
		c.want(message('R', "\x00\x00\x00\x03"))
		seen := []State{w.only().State}
		for _, status := range "ITE" {
			c.send(query)
			c.want(message('Z', string(status)))
			seen = append(seen, w.only().State)
		}
		for i, want := range []State{Login, OutsideTx, InTransaction, FailedTransaction} {
			if seen[i] != want {
				t.Errorf("state is %s, want %s", seen[i], want)
			}
		}
		pass(time.Minute)
		s := w.only()
		if s.Addr != home || s.User != `a\x1bpp` || s.Grant.Rule.ID != "home" || s.Grant.Identity.CommonName != "app" ||
			!s.Accepted.Equal(c.since) || s.ToClient != 27 || s.ToServer != int64(3*len(query)) || strings.Contains(s.Database, "\x1b") {
			t.Errorf("the session is shown as %+v", s)
		}
		if toClient, toServer := w.sessions.Table().Traffic(); toClient != s.ToClient || toServer != s.ToServer {
			t.Errorf("traffic is %d and %d", toClient, toServer)
		}
		c.leave()
		w.wait()
		if toClient, toServer := w.sessions.Table().Traffic(); toClient < s.ToClient || toServer < s.ToServer {
			t.Errorf("traffic has shrunk to %d and %d", toClient, toServer)
		}
	})
}

// only is the one live session.
func (w *world) only() Session {
	w.t.Helper()
	list := w.sessions.Table().Sessions()
	if len(list) != 1 {
		w.t.Fatalf("%d sessions, want 1", len(list))
	}
	return list[0]
}
