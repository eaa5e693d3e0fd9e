package listener

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// fakeListener returns what is sent to it, and counts how often it was asked.
type fakeListener struct {
	results chan any // net.Conn or error
	closed  chan struct{}
	once    sync.Once
	mu      sync.Mutex
	asked   []time.Time
}

func newFakeListener() *fakeListener {
	return &fakeListener{results: make(chan any), closed: make(chan struct{})}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	l.asked = append(l.asked, time.Now())
	l.mu.Unlock()
	select {
	case result := <-l.results:
		if err, ok := result.(error); ok {
			return nil, err
		}
		return result.(net.Conn), nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *fakeListener) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5432"))
}

func (l *fakeListener) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked)
}

// connect gives the listener a connection and returns the client's end.
func (l *fakeListener) connect() net.Conn {
	client, server := net.Pipe()
	l.results <- server
	return client
}

// fail gives the listener's next Accept an error.
func (l *fakeListener) fail(err error) { l.results <- err }

// serve runs the server until the test ends, and reports what Serve returned.
func serve(s *Server, listeners ...net.Listener) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), listeners...) }()
	return ended
}

// holdOpen is a Handle that keeps each connection until its client sends or closes.
func holdOpen(_ context.Context, conn net.Conn) {
	defer conn.Close()
	conn.Read(make([]byte, 1))
}

// finish drains the server in the steps of its documentation.
func finish(t *testing.T, s *Server) {
	t.Helper()
	s.CloseListeners()
	s.CloseConns()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Errorf("after CloseConns: %v, %d open", err, s.Open())
	}
}
