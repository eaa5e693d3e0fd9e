// Package listener accepts connections, bounds how many there are, keeps track of them, and drains them.
//
// It is where a connection begins: it reserves a slot, accepts, sets the socket's options and calls a function in a
// goroutine of its own, which owns the connection from then on. It knows nothing of PostgreSQL, TLS or rules and
// reads and writes no byte; package session does, and does not know this package.
package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"pgmtls-proxy/internal/sockopt"
)

// Server accepts connections. Set the fields, then call Serve once; the other methods may be called at any time,
// from any goroutine. To drain:
//
//  1. CloseListeners: nobody new comes in, and Serve returns.
//  2. Wait, with the time that live connections are given.
//  3. CloseConns ends those that are left.
//  4. Wait again, for their goroutines.
type Server struct {
	// Handle serves one connection in a goroutine of its own. It owns the connection, whose dynamic type is *[Conn],
	// and must see to its Close, on return or later: the slot is taken until then. The context is Serve's.
	Handle func(ctx context.Context, conn net.Conn)

	// Slots is how many connections may be open at once; 0 is no bound. The slot is reserved before the accept, so
	// that a full server leaves clients in the kernel's queue instead of spending descriptors on them. Every
	// listener beyond the first adds one, since each holds one reserved while it waits.
	Slots int

	// TCP has the options of accepted TCP sockets.
	TCP sockopt.TCP

	// OnAcceptError is told, if set, of every failed accept and how long the listener now waits (0: not at all), and
	// of socket options that the system refused.
	OnAcceptError func(err error, wait time.Duration)

	// OnPanic is told of a panic in Handle, whose connection is closed; the process goes on. If it is nil, a panic
	// ends the process as usual.
	OnPanic func(value any, stack []byte)

	slots chan struct{} // a send reserves; nil: no bound

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[*Conn]struct{}
	running   int           // accept loops and Handles
	idle      chan struct{} // closed when nothing runs and nothing is open; nil: nobody waits
	stop      chan struct{} // closed by CloseListeners; nil: not asked for yet
	stopped   bool
	cut       bool // CloseConns was called
}

// Serve accepts on all listeners until CloseListeners is called, which gives nil, or ctx is done, which gives its
// cause. It outlives every failed accept; only a listener that somebody else closed ends it with an error. The
// listeners are closed when it returns, the connections are not.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	if s.Slots > 0 {
		s.slots = make(chan struct{}, s.Slots+len(listeners)-1)
	}
	stop := s.begin(listeners)
	defer context.AfterFunc(ctx, s.CloseListeners)()

	ends := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() {
			defer s.done()
			ends <- s.acceptLoop(ctx, l, stop)
		}()
	}
	var err error
	for range listeners {
		if end := <-ends; end != nil {
			err = end
			s.CloseListeners()
		}
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// begin takes the listeners, closing them if CloseListeners came first, and counts their loops.
func (s *Server) begin(listeners []net.Listener) (stop chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = listeners
	s.running += len(listeners)
	if s.stop == nil {
		s.stop = make(chan struct{})
	}
	if s.stopped {
		closeAll(listeners)
	}
	return s.stop
}

// acceptLoop accepts on one listener until stop is closed.
func (s *Server) acceptLoop(ctx context.Context, l net.Listener, stop chan struct{}) error {
	var backoff backoff
	for s.reserve(stop) {
		conn, err := l.Accept()
		if err == nil {
			backoff.reset()
			s.start(ctx, conn)
			continue
		}
		s.free()
		if isClosed(stop) {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		wait := backoff.after(err)
		s.acceptError(fmt.Errorf("accept on %s: %w", l.Addr(), err), wait)
		if wait > 0 && !sleep(wait, stop) {
			return nil
		}
	}
	return nil
}

// start tracks the connection and hands it to Handle.
func (s *Server) start(ctx context.Context, inner net.Conn) {
	if err := s.TCP.Apply(inner); err != nil {
		s.acceptError(err, 0)
	}
	conn := &Conn{Conn: inner, server: s}
	s.mu.Lock()
	cut := s.cut
	if !cut {
		if s.conns == nil {
			s.conns = make(map[*Conn]struct{})
		}
		s.conns[conn] = struct{}{}
		s.running++
	}
	s.mu.Unlock()
	if cut {
		conn.Close()
		return
	}
	go s.handle(ctx, conn)
}

// handle calls Handle and survives it.
func (s *Server) handle(ctx context.Context, conn *Conn) {
	defer s.done()
	returned := false
	defer func() {
		if returned {
			return
		}
		conn.Close()
		if s.OnPanic == nil {
			return
		}
		// nil if the goroutine ends by runtime.Goexit, as in a test that calls t.FailNow in Handle.
		if value := recover(); value != nil {
			s.OnPanic(value, debug.Stack())
		}
	}()
	s.Handle(ctx, conn)
	returned = true
}

func (s *Server) acceptError(err error, wait time.Duration) {
	if s.OnAcceptError != nil {
		s.OnAcceptError(err, wait)
	}
}

// reserve waits for a slot and reports whether the loop shall go on.
func (s *Server) reserve(stop chan struct{}) bool {
	if isClosed(stop) {
		return false
	}
	if s.slots == nil {
		return true
	}
	select {
	case s.slots <- struct{}{}:
		return true
	case <-stop:
		return false
	}
}

// free gives a slot back.
func (s *Server) free() {
	if s.slots != nil {
		<-s.slots
	}
}

// forget is the end of a connection: once per connection, by its Close.
func (s *Server) forget(conn *Conn) {
	s.free()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	s.signalIdle()
}

// done is the end of an accept loop or of a Handle.
func (s *Server) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.signalIdle()
}

func isClosed(stop chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// sleep waits and reports whether it was not stopped.
func sleep(wait time.Duration, stop chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	}
}
