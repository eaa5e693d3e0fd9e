package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrainInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s := &Server{Handle: holdOpen}
		ended := serve(s, l)
		leaves, stays := l.connect(), l.connect()
		synctest.Wait()

		s.CloseListeners()
		if err := <-ended; err != nil {
			t.Errorf("Serve gives %v after CloseListeners, want nil", err)
		}
		if s.Open() != 2 {
			t.Errorf("%d connections open after CloseListeners, want 2", s.Open())
		}

		grace, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		leaves.Close()
		if err := s.Wait(grace); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 30*time.Second {
			t.Errorf("Wait gives %v after %v, want the deadline after 30s", err, time.Since(start))
		}
		if s.Open() != 1 {
			t.Errorf("%d connections open after the grace, want 1", s.Open())
		}

		s.CloseConns()
		if err := s.Wait(t.Context()); err != nil {
			t.Errorf("last Wait: %v", err)
		}
		if _, err := stays.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("client reads %v, want EOF", err)
		}
	})
}

func TestWaitReturnsWhenTheLastConnectionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s := &Server{Handle: holdOpen}
		serve(s, l)
		client := l.connect()
		s.CloseListeners()
		start := time.Now()
		time.AfterFunc(3*time.Second, func() { client.Close() })
		if err := s.Wait(t.Context()); err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("Wait gives %v after %v, want nil after 3s", err, time.Since(start))
		}
	})
}

// A connection that its Handle has handed on is open, and nobody is on the way in any more.
func TestHandlingEndsWhenConnectionsAreHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		on := make(chan net.Conn, 1)
		proceed := make(chan struct{})
		s := &Server{Handle: func(_ context.Context, conn net.Conn) { <-proceed; on <- conn }}
		serve(s, l)
		l.connect()
		synctest.Wait()
		if n := s.Handling(); n != 2 { // with the listener
			t.Errorf("%d are handled, want 2", n)
		}
		s.CloseListeners()
		synctest.Wait()
		if n := s.Handling(); n != 1 {
			t.Errorf("%d are handled behind CloseListeners, want 1", n)
		}
		close(proceed)
		conn := <-on
		synctest.Wait()
		if s.Handling() != 0 || s.Open() != 1 {
			t.Errorf("%d are handled and %d open, want 0 and 1", s.Handling(), s.Open())
		}
		conn.Close()
	})
}

func TestCloseListenersCutsABackoffShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s := &Server{Handle: holdOpen}
		ended := serve(s, l)
		l.fail(acceptErr(syscall.EMFILE))
		synctest.Wait()
		start := time.Now()
		s.CloseListeners()
		if err := <-ended; err != nil || time.Since(start) != 0 {
			t.Errorf("Serve gives %v after %v, want nil at once", err, time.Since(start))
		}
	})
}

func TestCloseListenersBeforeServe(t *testing.T) {
	l := newFakeListener()
	s := &Server{Handle: holdOpen}
	s.CloseListeners()
	if err := s.Serve(t.Context(), l); err != nil {
		t.Error(err)
	}
	if l.times() != 0 {
		t.Error("a server that was closed before Serve accepted")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("the listener was left open")
	}
}

func TestConnectionThatComesAfterCloseConnsIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s := &Server{Slots: 1, Handle: func(context.Context, net.Conn) { t.Error("Handle was called") }}
		serve(s, l)
		s.CloseConns()
		for range 2 { // twice: the first gave its slot back
			if _, err := l.connect().Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("client reads %v, want EOF", err)
			}
		}
		finish(t, s)
	})
}
