// Package connlimit bounds how many connections of a listener are open at once, overall and for each client address. It
// stands in front of the HTTP servers of both programs; what the connections carry is theirs to know.
//
// PostgreSQL's clients have limits of their own: packages listener and session.
package connlimit

import (
	"net"
	"net/netip"
	"sync"
)

// Listener accepts connections of an inner listener while there is room for them. Its methods are safe for concurrent use.
type Listener struct {
	net.Listener
	max, perAddress int

	mu        sync.Mutex
	open      int
	addresses map[netip.Addr]int
}

// New returns a listener that keeps at most max connections open, and at most perAddress of one client address, where a
// /64 of IPv6 counts as one. A connection without an address, as over a unix socket, counts overall only.
func New(inner net.Listener, max, perAddress int) *Listener {
	return &Listener{Listener: inner, max: max, perAddress: perAddress, addresses: make(map[netip.Addr]int)}
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
		if l.enter(addr) {
			return &conn{Conn: inner, leave: sync.OnceFunc(func() { l.leave(addr) })}, nil
		}
		inner.Close()
	}
}

func (l *Listener) enter(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.max || addr.IsValid() && l.addresses[addr] >= l.perAddress {
		return false
	}
	l.open++
	if addr.IsValid() {
		l.addresses[addr]++
	}
	return true
}

func (l *Listener) leave(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if !addr.IsValid() {
		return
	}
	if l.addresses[addr]--; l.addresses[addr] == 0 {
		delete(l.addresses, addr)
	}
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
	leave func()
}

// Close closes the connection. Only the first call counts.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
