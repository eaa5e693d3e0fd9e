package session

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

// gate is a world on real sockets: clients over TCP, PostgreSQL on a unix socket.
type gate struct {
	*world
	address string
	server  net.Listener
	open    sync.WaitGroup // connections to either
	dials   atomic.Int64   // by clients
}

// patience is how long a test waits for what should happen at once. Nothing waits it out when all is well.
const patience = time.Minute

// loopback is where the tests' clients come from; the second address is in no rule.
var loopback, elsewhere = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")

func newGate(t testing.TB, change func(*Config)) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "session") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &gate{world: newWorld(t, change)}
	g.sessions.database = New(g.sessions.config).database // the snapshot's
	g.keeper.Builder.Backend.Network = "unix"
	g.keeper.Builder.Backend.Address = filepath.Join(dir, "s")
	g.apply("real", "ip_rules: [{id: loopback, cidr: 127.0.0.1/32}]")
	g.server = g.serve("unix", g.keeper.Builder.Backend.Address, func(conn net.Conn) {
		defer conn.Close()
		serveReal(conn)
	})
	clients := g.serve("tcp", "127.0.0.1:0", func(conn net.Conn) { g.sessions.Serve(context.Background(), conn) })
	g.address = clients.Addr().String()
	t.Cleanup(func() {
		g.quiet()
		clients.Close()
		g.close()
		g.server.Close()
		g.open.Wait()
	})
	return g
}

// serveReal is serveLogin, and a server that gets CancelRequests.
func serveReal(conn net.Conn) {
	packet, err := readPacket(conn, 0)
	if err != nil || len(packet) >= 8 && string(packet[4:8]) == string(cancelPacket(0, "")[4:8]) {
		return
	}
	io.WriteString(conn, loginAnswer)
	for {
		if packet, err := readPacket(conn, 1); err != nil || packet[0] == 'X' {
			return
		}
		io.WriteString(conn, queryAnswer)
	}
}

func (g *gate) serve(network, address string, handle func(net.Conn)) net.Listener {
	g.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.open.Go(func() { handle(conn) })
		}
	})
	return l
}

// dial is a client's connection from the address.
func (g *gate) dial(from netip.Addr) *net.TCPConn {
	conn, err := (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}).Dial("tcp", g.address)
	if err != nil {
		g.t.Error(err)
		return nil
	}
	g.dials.Add(1)
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn.(*net.TCPConn)
}

// secure shakes hands; nil if that fails, which is an error of the test.
func (g *gate) secure(conn net.Conn, certificate *testpki.Pair) *tls.Conn {
	conn.Write(request(pgwire.SSLRequestCode))
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'S' {
		g.t.Errorf("the answer to SSLRequest is %q, %v", answer, err)
		return nil
	}
	config := clientTLS(certificate)
	config.CurvePreferences = []tls.CurveID{tls.CurveP256} // the cheapest: there are thousands of handshakes
	secured := tls.Client(conn, config)
	if err := secured.Handshake(); err != nil {
		g.t.Error(err)
		return nil
	}
	return secured
}

// expect reads up to the end and wants the text in it.
func (g *gate) expect(conn net.Conn, text string) {
	if all, err := io.ReadAll(conn); err != nil || !strings.Contains(string(all), text) {
		g.t.Errorf("the client reads %q, %v; want %q", all, err, text)
	}
}

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// kinds are connections of every kind, from their begin to their end.
var kinds = map[string]func(g *gate){
	"probe": func(g *gate) { g.dial(loopback).Close() },
	"refused in plaintext": func(g *gate) {
		conn := g.dial(loopback)
		defer conn.Close()
		conn.Write(startupPacket("user", "app"))
		g.expect(conn, "connection requires TLS")
	},
	"denied address": func(g *gate) {
		conn := g.dial(elsewhere)
		defer conn.Close()
		conn.Write(startupPacket("user", "app"))
		io.Copy(io.Discard, conn) // an answer or, beyond the rate, none
	},
	"refused in TLS": func(g *gate) {
		conn := g.dial(loopback)
		defer conn.Close()
		if secured := g.secure(conn, nil); secured != nil {
			secured.Write(startupPacket("user", "app"))
			g.expect(secured, "connection requires a valid client certificate")
		}
	},
	"served": func(g *gate) {
		conn := g.dial(loopback)
		defer conn.Close()
		if secured := g.login(conn); secured != nil {
			secured.Write([]byte(message('X', "")))
			g.expect(secured, "")
			secured.Close()
		}
	},
	"cancelled": func(g *gate) {
		conn := g.dial(loopback)
		defer conn.Close()
		secured := g.login(conn)
		if secured == nil {
			return
		}
		cancel := g.dial(loopback)
		defer cancel.Close()
		cancel.Write(pgwire.CancelPacket(theKey))
		g.expect(cancel, "")
		secured.Close()
	},
	"reset before the first byte": func(g *gate) { reset(g.dial(loopback)) },
	"reset after SSLRequest": func(g *gate) {
		conn := g.dial(loopback)
		conn.Write(request(pgwire.SSLRequestCode))
		io.ReadFull(conn, make([]byte, 1))
		reset(conn)
	},
	"reset in the handshake": func(g *gate) {
		conn := g.dial(loopback)
		conn.Write(request(pgwire.SSLRequestCode))
		io.ReadFull(conn, make([]byte, 1))
		tls.Client(&resets{conn}, clientTLS(pki().app)).Handshake()
	},
	"reset after the handshake": func(g *gate) {
		conn := g.dial(loopback)
		g.secure(conn, pki().app)
		reset(conn)
	},
	"reset in the startup packet": func(g *gate) {
		conn := g.dial(loopback)
		if secured := g.secure(conn, pki().app); secured != nil {
			secured.Write(startupPacket("user", "app")[:10])
		}
		reset(conn)
	},
	"reset in the session": func(g *gate) {
		conn := g.dial(loopback)
		if secured := g.login(conn); secured != nil {
			secured.Write(query[:3])
		}
		reset(conn)
	},
}

// resets breaks off where the client would send its certificate.
type resets struct{ *net.TCPConn }

func (r *resets) Read(p []byte) (int, error) {
	n, err := r.TCPConn.Read(p)
	reset(r.TCPConn)
	return n, errors.Join(err, io.ErrUnexpectedEOF)
}

func (g *gate) login(conn net.Conn) *tls.Conn {
	secured := g.secure(conn, pki().app)
	if secured == nil {
		return nil
	}
	secured.Write(startupPacket("user", "app"))
	answer := make([]byte, len(loginAnswer))
	if _, err := io.ReadFull(secured, answer); err != nil || string(answer) != loginAnswer {
		g.t.Errorf("the login gives %q, %v", answer, err)
		return nil
	}
	return secured
}

func TestThousandConnectionsOfEveryKindLeaveNothingBehind(t *testing.T) {
	for name, row := range map[string]struct {
		engine relay.Engine
		many   int
	}{
		"pairs":               {relay.Goroutines{}, 100},
		"the system's engine": {relay.NewEngine(), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() {
				row.many = 50
			}
			g := newGate(t, func(c *Config) { c.Relay = row.engine })
			g.flood(20) // what is made once is there from now on
			goroutines, files := g.settled()
			g.flood(row.many)
			loops := runtime.GOMAXPROCS(0) // the engine may start that many, each a goroutine and two descriptors, and keeps them
			err := eventually.Poll(patience, 20*time.Millisecond, func() error {
				if runtime.NumGoroutine() > goroutines+loops || descriptors(t) > files+2*loops {
					return errors.New("goroutines or descriptors are left")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if t.Failed() {
				buf := make([]byte, 1<<20)
				t.Logf("from %d goroutines and %d descriptors to %d and %d\n%s", goroutines, files,
					runtime.NumGoroutine(), descriptors(t), buf[:runtime.Stack(buf, true)])
			}
			if n := len(g.sessions.admission.handshakeSlots) + len(g.sessions.admission.cancels) + len(g.sessions.table.sessions) + len(g.sessions.table.keys) +
				len(g.sessions.table.addresses); n != 0 || g.metric("unfinished_connections") != 0 || g.metric("panics_total") != 0 {
				t.Errorf("%d turns, cancels, sessions, keys and addresses are left, %v connections, %v panics",
					n, g.metric("unfinished_connections"), g.metric("panics_total"))
			}
		})
	}
}

// flood makes so many connections of every kind, a few at a time.
func (g *gate) flood(many int) {
	for _, run := range kinds {
		var busy sync.WaitGroup
		for range 8 {
			busy.Go(func() {
				for range (many + 7) / 8 {
					run(g)
				}
			})
		}
		busy.Wait()
	}
	g.quiet()
}

// quiet waits until every client's connection was accepted and is over.
func (g *gate) quiet() {
	g.t.Helper()
	eventually.OK(g.t, patience, func() error {
		if g.metric("connections_total") < float64(g.dials.Load()) || g.metric("unfinished_connections")+g.metric("sessions") > 0 {
			return errors.New("connections are open")
		}
		return nil
	})
}

// settled waits until the number of goroutines stands still.
func (g *gate) settled() (goroutines, files int) {
	err := eventually.Poll(patience, 20*time.Millisecond, func() error {
		before := goroutines
		goroutines, files = runtime.NumGoroutine(), descriptors(g.t)
		if goroutines != before {
			return errors.New("goroutines come and go")
		}
		return nil
	})
	if err != nil {
		g.t.Error(err)
	}
	return goroutines, files
}

func descriptors(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("descriptors can't be counted here:", err)
	}
	return len(list)
}

// What a man in the middle puts behind SSLRequest must never be taken for the client's (CVE-2021-23214).
func TestBytesBehindARequestForEncryptionCloseWithoutAnAnswer(t *testing.T) {
	g := newGate(t, nil)
	for name, code := range map[string]uint32{"SSL": pgwire.SSLRequestCode, "GSSAPI encryption": pgwire.GSSENCRequestCode} {
		for _, size := range []int{1, 8, 300, 4096} {
			conn := g.dial(loopback)
			conn.Write(append(request(code), make([]byte, size)...))
			all, err := io.ReadAll(conn)
			if err != nil || len(all) == 0 || all[0] != 'E' || !strings.Contains(string(all), "received unencrypted data after "+name+" request") {
				t.Errorf("%s with %d bytes behind it: the client reads %q, %v", name, size, all, err)
			}
			conn.Close()
		}
	}
	g.quiet()
	if n := g.refused("unencrypted_data"); n != 8 {
		t.Errorf("counted %d, want 8", n)
	}
	if g.metric("backend_dial_seconds")+g.metric("backend_dial_errors_total") != 0 {
		t.Error("the server was dialled")
	}
}

// The same when the bytes come after the answer: they are the begin of TLS, and no good one.
func TestBytesAfterTheAnswerToSSLRequestFailTheHandshake(t *testing.T) {
	g := newGate(t, nil)
	conn := g.dial(loopback)
	defer conn.Close()
	conn.Write(request(pgwire.SSLRequestCode))
	io.ReadFull(conn, make([]byte, 1))
	conn.Write(startupPacket("user", "app"))
	if all, _ := io.ReadAll(conn); strings.Contains(string(all), "FATAL") {
		t.Errorf("the client reads %q", all)
	}
	g.quiet()
	if g.refused("tls_handshake_failed") != 1 || g.metric("backend_dial_seconds")+g.metric("backend_dial_errors_total") != 0 {
		t.Error("not counted, or dialled")
	}
}
