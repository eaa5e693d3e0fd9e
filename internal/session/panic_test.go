package session

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A connection whose code breaks ends alone: it is counted, and what it held is given back.
func TestPanicEndsOneConnectionAndGivesEverythingBack(t *testing.T) {
	for name, row := range map[string]struct {
		plant func(w *world)
		act   func(c *client)
	}{
		"in the handshake, with a turn": {
			func(w *world) {
				w.live.Current().TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panic("planted") }
			},
			func(c *client) { c.stall(stalled{whole: 100}) },
		},
		"in the dial, in the table": {
			func(w *world) { w.database.refuse = func(context.Context) error { panic("planted") } },
			inTLS(pki().app, startupPacket("user", "app")),
		},
		"in a cancel, with its place": {
			func(w *world) {
				w.sessions.config.ForwardAnyCancel = true
				w.database.cancel = func() error { panic("planted") }
			},
			func(c *client) { c.send(cancelPacket(1, "abcd")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				row.plant(w)
				c := w.connect(home)
				row.act(c)
				<-c.over
				c.leave()
				if w.metric("panics_total") != 1 || w.refused("internal_error") != 1 {
					t.Error("not counted")
				}
				if len(w.sessions.admission.handshakeSlots)+len(w.sessions.admission.cancels)+len(w.sessions.table.sessions) != 0 {
					t.Errorf("%d turns, %d cancels, %d sessions are left", len(w.sessions.admission.handshakeSlots), len(w.sessions.admission.cancels), len(w.sessions.table.sessions))
				}
				if w.metric("unfinished_connections") != 0 {
					t.Error("the connection is still counted as open")
				}
				events := w.journal.events(t)
				if len(events) != 2 || events[0]["panic"] != "planted" || events[0]["stack"] == "" || events[0]["conn"] != events[1]["conn"] {
					t.Errorf("logged as %v", events)
				}
				if read, err := c.proxy.Read(make([]byte, 1)); err != net.ErrClosed {
					t.Errorf("the socket is open: %d, %v", read, err)
				}
			})
		})
	}
}

// The relay calls back in a goroutine of its own, where a panic would end the process.
func TestPanicBehindTheRelayEndsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		busy := make(chan struct{})
		w.database.play = func(conn net.Conn) {
			readPacket(conn, 0)
			conn.Write([]byte(loginAnswer))
			<-busy
		}
		w.database.cancel = func() error { panic("planted") }
		c := w.connect(home)
		c.login(pki().app, "app")
		c.wire.Reset()
		w.wait()
		if w.metric("panics_total") != 1 || len(w.sessions.table.sessions) != 0 {
			t.Error("not counted, or still in the table")
		}
		close(busy)
	})
}

func TestValueOfAPanicIsLoggedWhateverItIs(t *testing.T) {
	w := newWorld(t, nil)
	c := w.enterable()
	func() {
		defer c.recoverPanic()
		var none []int
		_ = none[len(w.dir)]
	}()
	if text, _ := w.journal.events(t)[0]["panic"].(string); len(text) < 20 {
		t.Errorf("a runtime error is logged as %q", text)
	}
}

// A log that breaks while a connection is recorded does not count the connection twice.
func TestConnectionIsRecordedOnce(t *testing.T) {
	w := newWorld(t, nil)
	c := w.enterable()
	c.finish(errProbe)
	c.finish(errProbe)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := w.sessions.Wait(ctx); err != nil || w.metric("unfinished_connections") != 0 {
		t.Error(err)
	}
}

// A drain cancels from goroutines of its own, where a panic would end the process.
func TestPanicInADrainsCancelEndsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.scripted("")
		cancel := w.database.cancel
		w.database.cancel = func() error { panic("planted") }
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		synctest.Wait()
		w.sessions.CancelQueries(t.Context())
		<-c.over
		if w.metric("panics_total") != 1 || len(w.sessions.table.sessions)+len(w.sessions.admission.ownCancels) != 0 {
			t.Error("not counted, or a place was kept")
		}
		cancel()
		c.leave()
		w.wait()
	})
}

// A cancel waits for its turn, and a database that does not answer keeps it. The drain goes on at its own time.
func TestCancelsOfADrainEndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.scripted("")
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		synctest.Wait()
		for range MaxOwnCancels {
			w.sessions.admission.ownCancels <- struct{}{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		w.sessions.CancelQueries(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("CancelQueries took %s", took)
		}
		w.sessions.Table().Abort()
		c.leave()
		w.wait()
	})
}
