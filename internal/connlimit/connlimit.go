// Package connlimit bounds how many connections of a listener are open at once, overall and for each client address, and what
// clients may send that have not proved who they are. It stands in front of the HTTP servers of both programs; what the
// connections carry is theirs to know.
//
// The numbers of PostgreSQL's clients are bounded elsewhere: packages listener and session.
package connlimit

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Limits are bounds of the connections of a listener. Where it says overall and of one address, a /64 of IPv6 counts as one.
type Limits struct {
	Open, OpenPerAddress int // connections

	// Waiting are those of them whose client has not sent a request yet, as far as [Begun] tells. 0: as many as may be open.
	Waiting, WaitingPerAddress int
	// Bytes bounds what a client may send in that time, and Hello what it may send before the server's first flight. 0: any
	// number. Both are for the bytes of TLS, which reads up to 16 KiB beyond what it needs.
	Bytes, Hello int
}

// Listener accepts connections of an inner listener while there is room for them. Its methods are safe for concurrent use.
type Listener struct {
	net.Listener
	limits Limits

	mu        sync.Mutex
	all       counts
	addresses map[netip.Addr]counts
}

// counts are numbers of connections.
type counts struct{ open, waiting int }

// New returns a listener that keeps at most max connections open, and at most perAddress of one client address, where a
// /64 of IPv6 counts as one. A connection without an address, as over a unix socket, counts overall only.
func New(inner net.Listener, max, perAddress int) *Listener {
	return NewLimited(inner, Limits{Open: max, OpenPerAddress: perAddress})
}

// NewLimited is [New] with all bounds. With those of clients that wait, the owner of the connections has to call [Begun].
func NewLimited(inner net.Listener, limits Limits) *Listener {
	if limits.Waiting == 0 {
		limits.Waiting = limits.Open
	}
	if limits.WaitingPerAddress == 0 {
		limits.WaitingPerAddress = limits.OpenPerAddress
	}
	return &Listener{Listener: inner, limits: limits, addresses: make(map[netip.Addr]counts)}
}

// Accept returns the next connection that there is room for. The others are closed at once: a client that finds an end
// tries again, and one that waits in the kernel's queue would not know why.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := network(inner.RemoteAddr())
		if !l.enter(addr) {
			inner.Close()
			continue
		}
		c := &conn{Conn: inner, listener: l, addr: addr}
		if l.limits.Bytes > 0 {
			c.handshake = NewHandshake(inner, l.limits.Hello, l.limits.Bytes, tooMuch)
		}
		return c, nil
	}
}

func tooMuch() error { return errors.New("the client sent too much before its first request") }

func (l *Listener) enter(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.addresses[addr]
	if l.all.open >= l.limits.Open || l.all.waiting >= l.limits.Waiting ||
		addr.IsValid() && (of.open >= l.limits.OpenPerAddress || of.waiting >= l.limits.WaitingPerAddress) {
		return false
	}
	l.count(addr, counts{1, 1})
	return true
}

// count adds to the numbers. The lock is held.
func (l *Listener) count(addr netip.Addr, more counts) {
	l.all.open += more.open
	l.all.waiting += more.waiting
	if !addr.IsValid() {
		return
	}
	of := l.addresses[addr]
	of.open += more.open
	of.waiting += more.waiting
	if of == (counts{}) {
		delete(l.addresses, addr)
		return
	}
	l.addresses[addr] = of
}

// network returns what the connections of a client are counted by, and the invalid address if there is none.
func network(remote net.Addr) netip.Addr {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		prefix, err := addr.Prefix(64)
		if err != nil {
			return addr
		}
		return prefix.Addr()
	}
	return addr
}

// conn gives its place back when it is closed.
type conn struct {
	net.Conn
	listener  *Listener
	addr      netip.Addr
	handshake *Handshake // nil: nothing is bounded
	begun     atomic.Bool
	closed    atomic.Bool
}

// Begun says that the client of a connection has sent a request, and may send any number of bytes from now on. It takes the
// connection as a [Listener] returned it, or a TLS connection over that; others it leaves alone.
func Begun(c net.Conn) {
	for {
		switch inner := c.(type) {
		case *conn:
			inner.begin()
			return
		case interface{ NetConn() net.Conn }:
			c = inner.NetConn()
		default:
			return
		}
	}
}

func (c *conn) begin() {
	if !c.begun.Swap(true) {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		c.listener.count(c.addr, counts{waiting: -1})
	}
}

// Read reads from the client.
func (c *conn) Read(p []byte) (int, error) {
	if c.handshake == nil || c.begun.Load() {
		return c.Conn.Read(p)
	}
	return c.handshake.Read(p)
}

// Write writes to the client.
func (c *conn) Write(p []byte) (int, error) {
	if c.handshake == nil || c.begun.Load() {
		return c.Conn.Write(p)
	}
	return c.handshake.Write(p)
}

// Close closes the connection. Only the first call counts.
func (c *conn) Close() error {
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		c.begin()
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		c.listener.count(c.addr, counts{open: -1})
	}
	return err
}
