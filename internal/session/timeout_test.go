package session

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

// pass lets time pass on the fake clock of a bubble. It stands nowhere else.
func pass(d time.Duration) { <-time.After(d) }

// stalled lets the first writes of a client through, cuts the next one off after some bytes and drops the rest.
type stalled struct {
	net.Conn
	whole int // writes that pass
	bytes int // of the one behind them
	drip  bool
}

func (s *stalled) Write(p []byte) (int, error) {
	if s.whole > 0 {
		s.whole--
		return s.Conn.Write(p)
	}
	n := min(s.bytes, len(p))
	s.bytes = 0
	s.Conn.Write(p[:n])
	for s.drip && n < len(p) {
		pass(time.Second)
		if _, err := s.Conn.Write(p[n : n+1]); err != nil {
			return n, err
		}
		n++
	}
	return len(p), nil
}

// stall starts a handshake that stops in the middle.
func (c *client) stall(s stalled) {
	c.t.Helper()
	c.send(request(pgwire.SSLRequestCode))
	c.want("S")
	s.Conn = c.wire
	c.work.Go(func() { tls.Client(&s, clientTLS(pki().app)).Handshake() })
}

// phases are the places before the relay at which a client can stop, or send one byte a second.
var phases = []struct {
	name  string
	inTLS bool
	reach func(c *client, drip bool)
}{
	{"before the first byte", false, func(*client, bool) {}},
	{"inside SSLRequest", false, func(c *client, drip bool) { c.drip(request(pgwire.SSLRequestCode), 3, drip) }},
	{"after GSSENCRequest", false, func(c *client, drip bool) {
		c.send(request(pgwire.GSSENCRequestCode))
		c.want("N")
		c.drip(request(pgwire.SSLRequestCode), 0, drip)
	}},
	{"after SSLRequest", false, func(c *client, drip bool) { c.stall(stalled{drip: drip}) }},
	{"inside ClientHello", false, func(c *client, drip bool) { c.stall(stalled{bytes: 100, drip: drip}) }},
	{"inside the certificate flight", false, func(c *client, drip bool) { c.stall(stalled{whole: 1, bytes: 200, drip: drip}) }},
	{"inside a plaintext startup packet", false, func(c *client, drip bool) { c.drip(longStartup(), 20, drip) }},
	{"inside a CancelRequest", false, func(c *client, drip bool) { c.drip(cancelPacket(1, "long enough to drip"), 9, drip) }},
	{"after the handshake", true, func(c *client, drip bool) {
		c.handshake(pki().app)
		c.drip(longStartup(), 0, drip)
	}},
	{"inside the startup packet", true, func(c *client, drip bool) {
		c.handshake(pki().app)
		c.drip(longStartup(), 30, drip)
	}},
}

// longStartup takes longer than the startup timeout at one byte a second.
func longStartup() []byte {
	return startupPacket("user", "app", "application_name", "a client that has all the time in the world")
}

// drip sends the begin of a packet and then nothing, or one byte a second.
func (c *client) drip(packet []byte, begin int, drip bool) {
	c.t.Helper()
	c.send(packet[:begin])
	to := c.stream()
	c.work.Go(func() {
		for i := begin; drip && i < len(packet); i++ {
			pass(time.Second)
			if _, err := to.Write(packet[i : i+1]); err != nil {
				return
			}
		}
	})
}

func TestDeadlineEndsEveryPhaseAndNoByteRenewsIt(t *testing.T) {
	for _, phase := range phases {
		for _, drip := range []bool{false, true} {
			name := phase.name + ", silent"
			if drip {
				name = phase.name + ", a byte a second"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, nil)
					c := w.connect(home)
					phase.reach(c, drip)
					if phase.inTLS {
						c.wantFatal("57014", "canceling authentication due to timeout")
					} else {
						<-c.over
					}
					if took := time.Since(c.since); took != 10*time.Second {
						t.Errorf("ended after %v, want 10s", took)
					}
					c.leave()
					<-c.over
					if !phase.inTLS {
						c.wantNoFatal()
					}
					if n := w.refused("startup_timeout"); n != 1 {
						t.Errorf("counted %d timeouts, want 1", n)
					}
					w.database.untouched()
				})
			})
		}
	}
}

// wantNoFatal expects that no message to the client is on its way. What TLS has said there is its own affair.
func (c *client) wantNoFatal() {
	c.t.Helper()
	c.proxy.out.update(func(l *lane) {
		for i := range l.data {
			if l.data[i] == 'E' && len(l.data) > i+4 && l.data[i+1] == 0 && l.data[i+2] == 0 {
				c.t.Errorf("the client is told %q", l.data[i:])
				return
			}
		}
	})
}

func TestWaitForAHandshakeTurnEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Handshakes = 1 })
		w.sessions.admission.handshakeSlots <- struct{}{} // somebody who never ends
		c := w.connect(home)
		c.stall(stalled{whole: 100})
		if took := c.served(); took != 10*time.Second {
			t.Errorf("ended after %v, want 10s", took)
		}
		if n := w.refused("startup_timeout"); n != 1 {
			t.Errorf("counted %d timeouts, want 1", n)
		}
		c.leave()
	})
}

func TestHandshakeThatWaitsForItsClientHoldsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Handshakes = 1 })
		var slow []*client
		for _, s := range []stalled{{}, {bytes: 100}, {whole: 1}, {whole: 1, bytes: 200}} {
			c := w.connect(home)
			c.stall(s)
			slow = append(slow, c)
		}
		deaf := w.connect(office) // it takes nothing of the server's flight
		deaf.send(request(pgwire.SSLRequestCode))
		deaf.want("S")
		deaf.proxy.out.update(func(l *lane) { l.room = 10 })
		deaf.work.Go(func() { tls.Client(onlyWrites{deaf.wire}, clientTLS(nil)).Handshake() })
		slow = append(slow, deaf)
		synctest.Wait()

		good := w.connect(home)
		good.login(pki().app, "app")
		if took := time.Since(good.since); took != 0 {
			t.Errorf("a good client waited %v for clients that wait for nothing", took)
		}
		good.leave()
		for _, c := range slow {
			if took := c.served(); took != 10*time.Second {
				t.Errorf("a stalled client ended after %v, want 10s", took)
			}
			c.leave()
		}
		if n := len(w.sessions.admission.handshakeSlots); n != 0 {
			t.Errorf("%d turns are still taken", n)
		}
	})
}

// onlyWrites is a client that reads nothing until its connection is closed.
type onlyWrites struct{ *wire }

func (w onlyWrites) Read([]byte) (int, error) {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	for !w.in.gone && !w.in.reset {
		w.in.changed.Wait()
	}
	return 0, net.ErrClosed
}

func TestRelayHasNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.login(pki().app, "app")
		if read, write := c.proxy.deadlines(); !read.IsZero() || !write.IsZero() {
			t.Errorf("the client's connection has the deadlines %v and %v", read, write)
		}
		pass(5 * time.Hour)
		c.send(query)
		c.want(queryAnswer)
		c.leave()
	})
}

func TestDialEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.database.refuse = func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		c := w.connect(home)
		c.handshake(pki().app)
		pass(4 * time.Second)
		c.send(startupPacket("user", "app"))
		c.wantFatal("57P03", "the database system is not available")
		if took := time.Since(c.since); took != 10*time.Second {
			t.Errorf("answered after %v, want 10s: the deadline is that of the accept", took)
		}
		c.leave()
	})
}

func TestServerThatNeverAnswersGoesWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		var open atomic.Int32
		w.database.play = func(conn net.Conn) {
			open.Add(1)
			defer open.Add(-1)
			for err := error(nil); err == nil; {
				_, err = conn.Read(make([]byte, 64))
			}
		}
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		pass(time.Hour)
		if open.Load() != 1 || len(w.sessions.Table().Sessions()) != 1 {
			t.Fatal("the login was cut off; PostgreSQL has its own authentication_timeout")
		}
		left := time.Now()
		c.wire.Reset()
		w.wait()
		synctest.Wait()
		if took := time.Since(left); took > time.Second || open.Load() != 0 {
			t.Errorf("%v after its client, %d connections to the server are open", took, open.Load())
		}
	})
}

func TestRefusedClientCanNotStay(t *testing.T) {
	for name, behave := range map[string]func(c *client){
		"reads nothing and stays": func(*client) {},
		"goes on sending": func(c *client) {
			c.work.Go(func() {
				for err := error(nil); err == nil; {
					pass(100 * time.Millisecond)
					_, err = c.wire.Write(make([]byte, 1000))
				}
			})
		},
		"takes nothing": func(c *client) { c.proxy.out.update(func(l *lane) { l.room = 0 }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				c := w.connect(home)
				c.handshake(nil)
				behave(c)
				c.send(startupPacket("user", "app"))
				if took := c.served(); took > 10*time.Second {
					t.Errorf("a refused client held its connection for %v", took)
				}
				w.database.untouched()
				c.leave()
			})
		})
	}
}

func TestAnswerReachesAClientThatHasSentAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.handshake(nil)
		c.send(append(startupPacket("user", "app"), make([]byte, 50_000)...))
		c.wantFatal("28000", "connection requires a valid client certificate")
		c.leave()
		if took := c.served(); took != 0 {
			t.Errorf("a client that left kept its connection for %v", took)
		}
		w.database.untouched()
	})
}

var errPlanted = errors.New("planted")
