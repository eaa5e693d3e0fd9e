package session

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// ageing runs ExpireSessions beside a test.
func (w *world) ageing(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		w.sessions.ExpireSessions(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-over
	})
}

func TestIdleSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.IdleTimeout = time.Minute })
		w.ageing(t)
		c := w.connect(home)
		c.login(pki().app, "app")
		for range 5 { // what it does in between counts
			pass(50 * time.Second)
			c.send(query)
			c.want(queryAnswer)
		}
		began := time.Now()
		answer := c.wantFatal("57P05", "terminating connection due to idle-session timeout")
		if took := time.Since(began); took < time.Minute-10*time.Second || took > time.Minute+10*time.Second || answer.Detail != "A session may be idle for 1m0s." {
			t.Errorf("ended after %s: %q", took, answer.Detail)
		}
		c.leave()
		w.wait()
		if e := w.last(); e["end"] != "stopped" || e["refusal"] != "session_idle" || w.refused("session_idle") != 1 {
			t.Errorf("logged as %v", e)
		}
	})
}

// playing is a server that answers each query with what the test says.
func playing(answers ...string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		readPacket(conn, 0)
		io.WriteString(conn, loginAnswer)
		for _, answer := range answers {
			if packet, err := readPacket(conn, 1); err != nil || packet[0] == 'X' {
				return
			}
			io.WriteString(conn, answer)
		}
		io.Copy(io.Discard, conn)
	}
}

func TestSessionInAQueryOrATransactionIsNotIdle(t *testing.T) {
	for name, answer := range map[string]string{"query": "", "transaction": message('Z', "T"), "failed transaction": message('Z', "E")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *Config) { c.IdleTimeout = time.Minute })
				w.database.play = playing(answer, message('Z', "I"))
				w.ageing(t)
				c := w.connect(home)
				c.login(pki().app, "app")
				c.send(query)
				c.want(answer)
				pass(time.Hour)
				if n := len(w.sessions.Table().Sessions()); n != 1 {
					t.Fatalf("%d sessions are left", n)
				}
				c.leave()
			})
		})
	}
}

func TestOldSessionEndsWhenItsTransactionDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.SessionLifetime = time.Hour })
		w.database.play = playing(message('Z', "T"), message('Z', "I"))
		w.ageing(t)
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		c.want(message('Z', "T"))
		pass(2 * time.Hour)
		c.send(query)
		c.want(message('Z', "I"))
		if answer := c.wantFatal("57P05", "terminating connection due to session lifetime limit"); answer.Detail != "A session may last 1h0m0s." {
			t.Errorf("detail: %q", answer.Detail)
		}
		c.leave()
		w.wait()
		if w.refused("session_lifetime") != 1 {
			t.Errorf("logged as %v", w.last())
		}
	})
}

func TestSessionsWithoutALimitGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ageing(t)
		c := w.connect(home)
		c.login(pki().app, "app")
		pass(1000 * time.Hour)
		c.send(query)
		c.want(queryAnswer)
		c.leave()
	})
}
