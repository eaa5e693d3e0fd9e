package listener

import (
	"context"
	"net"
)

// CloseListeners ends the accepting. A connection that was accepted a moment ago is still handed to Handle. It may
// be called before Serve, which then returns at once, and more than once.
func (s *Server) CloseListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	if s.stop == nil {
		s.stop = make(chan struct{})
	}
	close(s.stop)
	closeAll(s.listeners)
}

// Wait returns nil once no connection is open, no Handle runs and no listener accepts, or the context's cause if it
// is done first. It means something after CloseListeners; before, it may return between two connections.
func (s *Server) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.quiet() {
			s.mu.Unlock()
			return nil
		}
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle := s.idle
		s.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// CloseConns closes every open connection, and from now on every new one as soon as it is accepted. What reads or
// writes them gets net.ErrClosed. A connection whose socket was taken over (see [Conn]) gives back its slot; the
// taken socket is for its new owner to close.
func (s *Server) CloseConns() {
	s.mu.Lock()
	s.cut = true
	open := make([]*Conn, 0, len(s.conns))
	for conn := range s.conns {
		open = append(open, conn)
	}
	s.mu.Unlock()
	for _, conn := range open {
		conn.Close()
	}
}

// Open is the number of connections that hold a slot.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Handling is the number of connections whose Handle has not returned, and of listeners that still accept. Once it is
// 0 after CloseListeners, nobody is on the way in: what is open was handed on by its Handle.
func (s *Server) Handling() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// quiet needs the lock.
func (s *Server) quiet() bool { return s.running == 0 && len(s.conns) == 0 }

// signalIdle needs the lock.
func (s *Server) signalIdle() {
	if s.idle != nil && s.quiet() {
		close(s.idle)
		s.idle = nil
	}
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}
