package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/sockopt"
	"pgmtls-proxy/internal/testkit/eventually"
)

// loopback runs a server on a loopback port.
func loopback(t *testing.T, s *Server) (address string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := serve(s, l)
	t.Cleanup(func() {
		finish(t, s)
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func TestHalfClosePassesThroughConn(t *testing.T) {
	address := loopback(t, &Server{Handle: func(_ context.Context, conn net.Conn) {
		defer conn.Close()
		if err := conn.(*Conn).CloseWrite(); err != nil {
			t.Errorf("CloseWrite: %v", err)
		}
		io.Copy(io.Discard, conn) // the other direction lives on
	}})
	client := dial(t, address)
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("client reads %v, want EOF", err)
	}
	if _, err := client.Write([]byte("still")); err != nil {
		t.Errorf("client writes: %v", err)
	}
}

func TestAcceptedSocketsGetTheOptions(t *testing.T) {
	timeouts := make(chan int, 1)
	address := loopback(t, &Server{
		TCP: sockopt.TCP{UserTimeout: 300 * time.Second},
		Handle: func(_ context.Context, conn net.Conn) {
			defer conn.Close()
			raw, err := conn.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			raw.Control(func(fd uintptr) {
				ms, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
				if err != nil {
					t.Error(err)
				}
				timeouts <- ms
			})
		},
	})
	io.Copy(io.Discard, dial(t, address))
	if got := <-timeouts; got != 300_000 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms, want 300000", got)
	}
}

func TestOptionThatTheSystemRefusesIsToldAndTheConnectionServed(t *testing.T) {
	told := make(chan error, 1)
	address := loopback(t, &Server{
		TCP:           sockopt.TCP{KeepAliveCount: 1000},
		Handle:        func(_ context.Context, conn net.Conn) { conn.Write([]byte("!")); conn.Close() },
		OnAcceptError: func(err error, _ time.Duration) { told <- err },
	})
	if _, err := io.ReadFull(dial(t, address), make([]byte, 1)); err != nil {
		t.Errorf("client reads: %v", err)
	}
	if err := <-told; !errors.Is(err, unix.EINVAL) {
		t.Errorf("hook got %v, want EINVAL", err)
	}
}

func TestPipeHasNoSocketAndNoHalfClose(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	conn := &Conn{Conn: a, server: &Server{}}
	defer conn.Close()
	if _, err := conn.SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SyscallConn gives %v", err)
	}
	if err := conn.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("CloseWrite gives %v", err)
	}
}

func TestGoroutinesAreBackAtTheStart(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Handle: holdOpen, Slots: 16}
	ended := serve(s, l)
	for i := range 200 {
		client := dial(t, l.Addr().String())
		if i%2 == 0 {
			client.Write([]byte("bye"))
		}
		client.Close()
	}
	eventually.True(t, time.Minute, "every connection is gone", func() bool { return s.Open() == 0 })
	finish(t, s)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	eventually.True(t, time.Minute, "every goroutine is gone", func() bool { return runtime.NumGoroutine() <= before })
}
