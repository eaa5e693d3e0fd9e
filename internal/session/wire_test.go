package session

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// wire is a TCP connection in memory, for tests with a fake clock: bytes are buffered on the way, either side can end
// its sending, and closing with unread input resets the connection, which eats what the peer has not read yet.
type wire struct {
	in, out *lane
	remote  net.Addr
}

// lane is one direction of a wire.
type lane struct {
	mu      sync.Mutex
	changed sync.Cond
	data    []byte
	room    int  // bytes that fit on the way
	ended   bool // the writer sends no more
	reset   bool // the connection is broken
	gone    bool // the reader has closed
	read    alarm
	write   alarm
}

// alarm is a deadline.
type alarm struct {
	at    time.Time
	timer *time.Timer
}

const roomy = 64 << 10

// newWire connects a client with the address to a server.
func newWire(client netip.Addr) (near, far *wire) {
	up, down := newLane(), newLane()
	at := func(addr netip.Addr, port uint16) net.Addr {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, port))
	}
	near = &wire{in: down, out: up, remote: at(netip.MustParseAddr("192.0.2.53"), 5432)}
	far = &wire{in: up, out: down, remote: at(client, 40000)}
	return near, far
}

func newLane() *lane {
	l := &lane{room: roomy}
	l.changed.L = &l.mu
	return l
}

func (w *wire) Read(p []byte) (int, error) {
	l := w.in
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.gone:
			return 0, net.ErrClosed
		case l.read.over():
			return 0, os.ErrDeadlineExceeded
		case l.reset:
			return 0, syscall.ECONNRESET
		case len(l.data) > 0:
			n := copy(p, l.data)
			l.data = l.data[n:]
			l.changed.Broadcast()
			return n, nil
		case l.ended:
			return 0, io.EOF
		}
		l.changed.Wait()
	}
}

func (w *wire) Write(p []byte) (int, error) {
	l := w.out
	l.mu.Lock()
	defer l.mu.Unlock()
	written := 0
	for {
		switch {
		case l.ended:
			return written, net.ErrClosed
		case l.write.over():
			return written, os.ErrDeadlineExceeded
		case l.reset:
			return written, syscall.ECONNRESET
		case l.gone:
			return written, syscall.EPIPE
		}
		n := min(len(p), max(l.room-len(l.data), 0))
		l.data = append(l.data, p[:n]...)
		written, p = written+n, p[n:]
		l.changed.Broadcast()
		if len(p) == 0 {
			return written, nil
		}
		l.changed.Wait()
	}
}

// CloseWrite is a FIN.
func (w *wire) CloseWrite() error {
	w.out.update(func(l *lane) { l.ended = true })
	return nil
}

// Close is a FIN or, with unread input, a reset.
func (w *wire) Close() error {
	unread := false
	w.in.update(func(l *lane) {
		unread = len(l.data) > 0
		l.gone, l.data = true, nil
	})
	if unread {
		w.out.update((*lane).breakOff)
	}
	return w.CloseWrite()
}

// Reset breaks the connection off, as a peer does that crashes, or that wants to.
func (w *wire) Reset() {
	w.out.update((*lane).breakOff)
	w.in.update(func(l *lane) {
		l.breakOff()
		l.gone = true
	})
}

func (l *lane) breakOff() { l.reset, l.data = true, nil }

func (l *lane) update(change func(*lane)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
	l.changed.Broadcast()
}

func (w *wire) SetDeadline(t time.Time) error {
	w.SetReadDeadline(t)
	return w.SetWriteDeadline(t)
}

func (w *wire) SetReadDeadline(t time.Time) error {
	w.in.update(func(l *lane) { l.read.set(t, l) })
	return nil
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	w.out.update(func(l *lane) { l.write.set(t, l) })
	return nil
}

func (a *alarm) over() bool { return !a.at.IsZero() && !time.Now().Before(a.at) }

func (a *alarm) set(t time.Time, l *lane) {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.at = t
	if !t.IsZero() {
		a.timer = time.AfterFunc(time.Until(t), func() { l.update(func(*lane) {}) })
	}
}

func (w *wire) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr { return w.remote }

// deadlines are those that the side of the wire has set.
func (w *wire) deadlines() (read, write time.Time) {
	w.in.update(func(l *lane) { read = l.read.at })
	w.out.update(func(l *lane) { write = l.write.at })
	return read, write
}
