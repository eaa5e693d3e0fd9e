package relay

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Epoll is the engine of event loops. Sessions are packed on the first loop until that is busy, since each wake-up is
// paid for by what it finds: two half-idle loops cost more than one busy one. The zero value is ready.
type Epoll struct {
	mu    sync.Mutex
	loops []*eventLoop // at most GOMAXPROCS
}

// A loop above busyLoad gives half of its active sessions to another. One whose work fits onto the first loop, which
// would still be under idleLoad, gives them all back. Per cent of a window.
const (
	busyLoad = 75
	idleLoad = 40
)

// Start begins to relay. What is no plain socket, such as TLS to the server, is left to [Goroutines].
func (set *Epoll) Start(link Link, done func(Result)) Relay {
	l := set.place()
	if l == nil {
		return Goroutines{}.Start(link, done)
	}
	client, server := detach(link.Transport.Conn), detach(link.Server)
	if client < 0 || server < 0 {
		if client >= 0 {
			unix.Close(client)
		}
		if server >= 0 {
			unix.Close(server)
		}
		return Goroutines{}.Start(link, done)
	}
	leave(link.Transport.Conn)
	leave(link.Server)
	link.Server = nil
	s := &epollSession{link: link, done: done, forward: true}
	s.client.fd, s.server.fd = client, server
	l.adopt(s)
	return s
}

// detach returns a descriptor of its own for a socket, or -1 if there is no socket.
func detach(conn net.Conn) int {
	copied := -1
	if _, isTLS := conn.(*tls.Conn); isTLS {
		return copied
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return copied
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return copied
	}
	// An error is a closed socket's, and copied stays -1.
	_ = raw.Control(func(fd uintptr) {
		if n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			copied = n
		}
	})
	return copied
}

// leave takes a socket out of Go's poller. The listener's connection is asked for the one beneath, so that its slot stays
// taken until its own Close.
func leave(conn net.Conn) {
	if outer, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = outer.NetConn()
	}
	conn.Close()
}

// place chooses the loop for a new session: the first that is not busy. Nil if there can be none.
func (set *Epoll) place() *eventLoop {
	set.mu.Lock()
	defer set.mu.Unlock()
	for _, l := range set.loops {
		if l.window.recent() < busyLoad {
			return l
		}
	}
	if l := set.grow(); l != nil {
		return l
	}
	return set.leastLoaded()
}

// grow starts one more loop, if there is a processor for it. Called with mu held.
func (set *Epoll) grow() *eventLoop {
	if len(set.loops) >= runtime.GOMAXPROCS(0) {
		return nil
	}
	l, err := newEventLoop(set)
	if err != nil {
		return nil // out of descriptors: those that run have to do
	}
	set.loops = append(set.loops, l)
	return l
}

// leastLoaded is the loop with the least load, nil if there is no loop. Called with mu held.
func (set *Epoll) leastLoaded() *eventLoop {
	var calm *eventLoop
	for _, l := range set.loops {
		if calm == nil || l.window.recent() < calm.window.recent() {
			calm = l
		}
	}
	return calm
}

// balance moves sessions between loops. It is called in the goroutine of the loop, at the end of a window.
func (set *Epoll) balance(l *eventLoop) {
	set.mu.Lock()
	defer set.mu.Unlock()
	load, first := l.window.recent(), set.loops[0]
	switch {
	case load >= busyLoad:
		to := set.leastLoaded()
		if to == l || to.window.recent() >= busyLoad/2 {
			to = set.grow()
		}
		if to != nil {
			l.handOver(to, 2)
		}
	case l != first && load+first.window.recent() < idleLoad:
		l.handOver(first, 1)
	}
}

// handOver moves one of every so many sessions that were active in the last window, unless there is only one.
func (l *eventLoop) handOver(to *eventLoop, every int) {
	active := 0
	for _, s := range l.slots {
		if s == nil || s.active != l.window.number-1 || s.phase != relaying {
			continue
		}
		if active++; active%every == 0 {
			s.depart()
			to.adopt(s)
		}
	}
}
