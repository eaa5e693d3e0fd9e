package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// acceptErr is an error as package net wraps it.
func acceptErr(number syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", number)}
}

// recorder takes the hook's calls.
type recorder struct {
	mu    sync.Mutex
	waits []time.Duration
	errs  []error
}

func (r *recorder) acceptError(err error, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = append(r.waits, wait)
	r.errs = append(r.errs, err)
}

func TestShortageBacksOffFrom5msTo1sAndASuccessStartsAnew(t *testing.T) {
	for _, shortage := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINVAL} {
		synctest.Test(t, func(t *testing.T) {
			l, seen := newFakeListener(), &recorder{}
			s := &Server{Handle: holdOpen, OnAcceptError: seen.acceptError}
			serve(s, l)
			start := time.Now()
			for range 10 {
				l.fail(acceptErr(shortage))
			}
			l.connect().Close()
			const ms = time.Millisecond
			want := []time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1000 * ms, 1000 * ms}
			if !slices.Equal(seen.waits, want) {
				t.Errorf("%v: waits are %v, want %v", shortage, seen.waits, want)
			}
			var sum time.Duration
			for _, wait := range want {
				sum += wait
			}
			if took := time.Since(start); took != sum {
				t.Errorf("%v: took %v, want the sum of the waits, %v", shortage, took, sum)
			}
			if asked := l.times(); asked != 11 && asked != 12 {
				t.Errorf("%v: asked %d times for 11 results", shortage, asked)
			}
			if !errors.Is(seen.errs[0], shortage) || !strings.Contains(seen.errs[0].Error(), "192.0.2.1:5432") {
				t.Errorf("hook got %q, want the listener's address and %v", seen.errs[0], shortage)
			}
			l.fail(acceptErr(shortage))
			synctest.Wait()
			if last := seen.waits[len(seen.waits)-1]; last != 5*ms {
				t.Errorf("%v: first wait after a success is %v, want 5ms", shortage, last)
			}
			finish(t, s)
		})
	}
}

func TestErrorOfOneConnectionWaitsNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, seen := newFakeListener(), &recorder{}
		s := &Server{Handle: holdOpen, OnAcceptError: seen.acceptError}
		serve(s, l)
		start := time.Now()
		for range 3 {
			l.fail(acceptErr(syscall.ECONNABORTED))
		}
		l.connect().Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("waited %v", took)
		}
		if want := []time.Duration{0, 0, 0}; !slices.Equal(seen.waits, want) {
			t.Errorf("waits are %v, want %v", seen.waits, want)
		}
		finish(t, s)
	})
}

func TestFullServerAcceptsNobodyUntilAConnectionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s := &Server{Handle: holdOpen, Slots: 2}
		serve(s, l)
		first, second := l.connect(), l.connect()
		defer second.Close()
		synctest.Wait()
		if asked := l.times(); asked != 2 {
			t.Fatalf("asked %d times with 2 slots taken, want 2", asked)
		}
		first.Close()
		synctest.Wait()
		if asked := l.times(); asked != 3 {
			t.Errorf("asked %d times after one connection closed, want 3", asked)
		}
		finish(t, s)
	})
}

func TestFailedAcceptGivesItsSlotBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s := &Server{Handle: holdOpen, Slots: 1}
		serve(s, l)
		l.fail(acceptErr(syscall.ECONNABORTED))
		l.fail(acceptErr(syscall.EMFILE))
		defer l.connect().Close()
		finish(t, s)
	})
}

func TestIdleListenerDoesNotStarveTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet, busy := newFakeListener(), newFakeListener()
		s := &Server{Handle: holdOpen, Slots: 1}
		serve(s, quiet, busy)
		synctest.Wait()
		busy.connect().Close()
		synctest.Wait()
		quiet.connect().Close()
		finish(t, s)
	})
}

func TestSecondCloseFreesNoSecondSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		taken := make(chan net.Conn, 1)
		s := &Server{Slots: 2, Handle: func(_ context.Context, conn net.Conn) { taken <- conn }}
		serve(s, l)
		defer l.connect().Close()
		defer l.connect().Close()
		conn := <-taken
		conn.Close()
		conn.Close()
		synctest.Wait()
		// Two slots, one connection: the loop holds the other slot. A slot freed twice would leave room here.
		if reserved := len(s.slots); reserved != 2 || s.Open() != 1 {
			t.Errorf("%d slots reserved and %d connections open, want 2 and 1", reserved, s.Open())
		}
		finish(t, s)
	})
}

func TestSlotOutlivesHandleUntilClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		taken := make(chan net.Conn, 1)
		s := &Server{Slots: 1, Handle: func(_ context.Context, conn net.Conn) { taken <- conn }}
		serve(s, l)
		defer l.connect().Close()
		conn := <-taken
		synctest.Wait()
		// A relay that took the descriptor closes the connection beneath, and the slot stays.
		conn.(*Conn).NetConn().Close()
		synctest.Wait()
		if asked := l.times(); asked != 1 {
			t.Fatalf("asked %d times while the only slot is taken, want 1", asked)
		}
		conn.Close()
		synctest.Wait()
		if asked := l.times(); asked != 2 {
			t.Errorf("asked %d times after Close, want 2", asked)
		}
		finish(t, s)
	})
}

func TestPanicEndsOneConnectionOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		var value any
		var stack string
		s := &Server{
			Slots:   1,
			Handle:  func(context.Context, net.Conn) { panic("planted") },
			OnPanic: func(v any, trace []byte) { value, stack = v, string(trace) },
		}
		serve(s, l)
		client := l.connect()
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("client reads %v, want EOF", err)
		}
		synctest.Wait()
		if value != "planted" || !strings.Contains(stack, "TestPanicEndsOneConnectionOnly") {
			t.Errorf("hook got %v and a stack that does not show the panic's place:\n%s", value, stack)
		}
		l.connect().Close() // the only slot was freed
		finish(t, s)
	})
}

func TestListenerClosedByAnotherEndsServeWithAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, other := newFakeListener(), newFakeListener()
		s := &Server{Handle: holdOpen}
		ended := serve(s, l, other)
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve gives %v, want net.ErrClosed", err)
		}
		finish(t, s)
	})
}

func TestDoneContextEndsServeWithItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, cause := newFakeListener(), errors.New("planted")
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &Server{Handle: holdOpen}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx, l) }()
		cancel(cause)
		if err := <-ended; err != cause {
			t.Errorf("Serve gives %v, want %v", err, cause)
		}
		finish(t, s)
	})
}
