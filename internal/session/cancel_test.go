package session

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/testkit/testpki"
)

// asked sends a CancelRequest and expects the end of the connection without a word.
func (c *client) asked(packet []byte) {
	c.t.Helper()
	c.send(packet)
	if text, err := io.ReadAll(c.stream()); len(text) > 0 {
		c.t.Errorf("the client of a cancel reads %q, %v", text, err)
	}
	c.leave()
	<-c.over
}

func TestCancelNeedsTheKeyAndTheAddressOrTheCertificate(t *testing.T) {
	neighbour := netip.MustParseAddr("203.0.113.8")
	right := pgwire.CancelPacket(theKey)
	plain := func(*client) {}
	secured := func(p *testpki.Pair) func(*client) { return func(c *client) { c.handshake(p) } }
	for _, row := range []struct {
		name    string
		from    netip.Addr
		open    func(*client)
		packet  []byte
		any     bool
		forward bool
	}{
		{"the key, the address", home, plain, right, false, true},
		{"the key, the address, in TLS", home, secured(pki().app), right, false, true},
		{"the key, a neighbour", neighbour, plain, right, false, false},
		{"the key, another address", office, plain, right, false, false},
		{"the key, another address, the certificate", office, secured(pki().app), right, false, true},
		{"the key, another address, another certificate", office, secured(pki().other), right, false, false},
		{"the key, the address, no certificate in TLS", home, secured(nil), right, false, false},
		{"the key, the address, a stranger's certificate", home, secured(pki().foreign), right, false, false},
		{"the key, an address that is not allowed", outside, plain, right, false, false},
		{"another key", home, plain, cancelPacket(theKey.PID, "\x01\xfeKf"), false, false},
		{"a longer key", home, plain, cancelPacket(theKey.PID, "\x01\xfeKe\x00"), false, false},
		{"the begin of the key", home, plain, cancelPacket(theKey.PID, "\x01\xfeK"), false, false},
		{"another process", home, plain, cancelPacket(theKey.PID+1, "\x01\xfeKe"), false, false},
		{"any: an unknown key", office, plain, cancelPacket(1, "abcd"), true, true},
		{"any: in TLS", office, secured(pki().other), cancelPacket(1, "abcd"), true, true},
		{"any: in TLS without a certificate", office, secured(nil), cancelPacket(1, "abcd"), true, false},
		{"any: an address that is not allowed", outside, plain, right, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *Config) { c.ForwardAnyCancel = row.any })
				session := w.connect(home)
				session.login(pki().app, "app")
				c := w.connect(row.from)
				row.open(c)
				c.asked(row.packet)
				forwarded := w.database.cancelled()
				if row.forward != (len(forwarded) == 1 && string(forwarded[0]) == string(row.packet)) || !row.forward && len(forwarded) > 0 {
					t.Errorf("forwarded: %q, want %v", forwarded, row.forward)
				}
				result := map[bool]string{true: "forwarded", false: "denied"}[row.forward]
				if w.metric("cancel_requests_total", result) != 1 || w.metric("cancel_requests_total") != 1 {
					t.Errorf("not counted as %s alone", result)
				}
				session.leave()
			})
		})
	}
}

func TestLongCancelKeysPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		key := pgwire.Key{PID: 1 << 31, Secret: []byte(strings.Repeat("\x00\xff", 128))}
		w.database.play = func(conn net.Conn) { serveWithKey(conn, key) }
		session := w.connect(home)
		session.handshake(pki().app)
		session.send(startupPacket("user", "app"))
		session.want(loginWithKey(key))
		w.connect(home).asked(pgwire.CancelPacket(key))
		if n := len(w.database.cancelled()); n != 1 {
			t.Errorf("%d cancels reach the server, want 1", n)
		}
		session.leave()
	})
}

func TestKeyIsForgottenWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		session := w.connect(home)
		session.login(pki().app, "app")
		session.leave()
		w.wait()
		w.connect(home).asked(pgwire.CancelPacket(theKey))
		if n := len(w.database.cancelled()); n != 0 || len(w.sessions.table.keys) != 0 {
			t.Errorf("%d cancels for a session that is over; %d keys are left", n, len(w.sessions.table.keys))
		}
	})
}

// A client waits for the end of its connection before it trusts that its cancel was delivered (libpq).
func TestCancelIsOverWhenTheServerIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.database.cancel = func() error { pass(3 * time.Second); return nil }
		session := w.connect(home)
		session.login(pki().app, "app")
		c := w.connect(home)
		c.asked(pgwire.CancelPacket(theKey))
		if took := c.served(); took != 3*time.Second {
			t.Errorf("the client was let go after %v, want 3s", took)
		}
		session.leave()
	})
}

func TestCancelThatCanNotBeDeliveredIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.database.cancel = func() error { return errPlanted }
		session := w.connect(home)
		session.login(pki().app, "app")
		w.connect(home).asked(pgwire.CancelPacket(theKey))
		if w.metric("cancel_requests_total", "failed") != 1 {
			t.Error("not counted as failed")
		}
		session.leave()
	})
}

func TestWrongKeysRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		session := w.connect(home)
		session.login(pki().app, "app")
		right := pgwire.CancelPacket(theKey)
		for i := range cancelKeyFailuresBurst {
			w.connect(home).asked(cancelPacket(theKey.PID, string(rune('a'+i))+"bcd"))
		}
		w.connect(home).asked(right)
		if n := len(w.database.cancelled()); n != 0 {
			t.Fatal("a guess was tried after too many wrong ones")
		}
		pass(time.Second)
		w.connect(home).asked(right)
		w.connect(home).asked(right)
		if n := len(w.database.cancelled()); n != 2 {
			t.Errorf("%d cancels after a second, want 2: right keys cost nothing", n)
		}
		session.leave()
	})
}

// What a neighbour guesses stops nobody else: neither at another address of its network nor, inside TLS, at the same one.
func TestNeighboursWrongKeysStopNoCancelOfTheOwner(t *testing.T) {
	neighbour := home.Next() // of the same /24
	for name, row := range map[string]struct {
		guesser netip.Addr
		inTLS   bool
	}{
		"in plaintext": {neighbour, false}, "in TLS": {neighbour, true}, "in TLS from the address of the guesses": {home, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				session := w.connect(home)
				session.login(pki().app, "app")
				for i := range 3 * cancelKeyFailuresBurst {
					w.connect(row.guesser).asked(cancelPacket(theKey.PID, fmt.Sprintf("%04d", i)))
				}
				c := w.connect(home)
				if row.inTLS {
					c.handshake(pki().app)
				}
				c.asked(pgwire.CancelPacket(theKey))
				if n := len(w.database.cancelled()); n != 1 {
					t.Errorf("%d cancels of the owner came through, want 1", n)
				}
				session.leave()
			})
		})
	}
}

// Guesses inside TLS are counted by certificate, from whatever address.
func TestWrongKeysInsideTLSRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		session := w.connect(home)
		session.login(pki().app, "app")
		for i := range cancelKeyFailuresBurst {
			c := w.connect([]netip.Addr{home, office}[i%2])
			c.handshake(pki().app)
			c.asked(cancelPacket(theKey.PID, fmt.Sprintf("%04d", i)))
		}
		c := w.connect(home)
		c.handshake(pki().app)
		c.asked(pgwire.CancelPacket(theKey))
		if n := len(w.database.cancelled()); n != 0 {
			t.Error("a guess was tried after too many wrong ones")
		}
		session.leave()
	})
}

func TestCancelsAtTheServerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.ForwardAnyCancel = true })
		hold := make(chan struct{})
		w.database.cancel = func() error { <-hold; return nil }
		var waiting []*client
		for range MaxCancels {
			c := w.connect(home)
			c.send(cancelPacket(1, "abcd"))
			waiting = append(waiting, c)
		}
		synctest.Wait()
		w.connect(home).asked(cancelPacket(1, "abcd"))
		close(hold)
		for _, c := range waiting {
			<-c.over
			c.leave()
		}
		if n := len(w.database.cancelled()); n != MaxCancels || len(w.sessions.admission.cancels) != 0 {
			t.Errorf("%d cancels were forwarded, want %d; %d are still under way", n, MaxCancels, len(w.sessions.admission.cancels))
		}
	})
}

// A connection that waits before it asks is judged by the policy of its question.
func TestCancelFollowsThePolicyInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		session := w.connect(home)
		session.login(pki().app, "app")
		early := w.connect(home)
		synctest.Wait()
		w.apply("2", officeIn)
		early.asked(pgwire.CancelPacket(theKey))
		if n := len(w.database.cancelled()); n != 0 {
			t.Error("an address that is no longer allowed has cancelled")
		}
		session.leave()
	})
}

// PostgreSQL would notice only when it next writes that nobody listens.
func TestQueryOfALostClientIsCancelled(t *testing.T) {
	for name, row := range map[string]struct {
		lose   func(c *client)
		cancel int
	}{
		"reset in a query":   {func(c *client) { c.wire.Reset() }, 1},
		"FIN without a word": {func(c *client) { c.wire.Close() }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				busy := make(chan struct{})
				w.database.play = func(conn net.Conn) {
					readPacket(conn, 0)
					io.WriteString(conn, loginAnswer)
					readPacket(conn, 1)
					<-busy // it looks at nothing while the query runs
				}
				c := w.connect(home)
				c.login(pki().app, "app")
				c.send(query)
				synctest.Wait()
				row.lose(c)
				w.wait()
				cancelled := w.database.cancelled()
				if len(cancelled) != row.cancel || string(cancelled[0]) != string(pgwire.CancelPacket(theKey)) {
					t.Errorf("the server gets the cancels %q, want its session's key", cancelled)
				}
				close(busy)
			})
		})
	}
}
