package sockopt

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// options are what the kernel says about a socket.
type options struct{ noDelay, keepAlive, idle, interval, count, userTimeout int }

func read(t *testing.T, conn *net.TCPConn) options {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got options
	err = raw.Control(func(fd uintptr) {
		for _, option := range []struct {
			level, name int
			to          *int
		}{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, &got.noDelay},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, &got.keepAlive},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, &got.idle},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, &got.interval},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, &got.count},
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, &got.userTimeout},
		} {
			value, err := unix.GetsockoptInt(int(fd), option.level, option.name)
			if err != nil {
				t.Errorf("option %d: %v", option.name, err)
			}
			*option.to = value
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// dial gives a TCP connection on which package net has set no keepalive of its own.
func dial(t *testing.T) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conn, err := (&net.Dialer{KeepAlive: -1}).Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func TestEveryOptionReachesTheKernel(t *testing.T) {
	conn := dial(t)
	settings := TCP{KeepAliveIdle: 61 * time.Second, KeepAliveInterval: 11 * time.Second, KeepAliveCount: 7, UserTimeout: 122 * time.Second}
	if err := settings.Apply(conn); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, conn), (options{1, 1, 61, 11, 7, 122_000}); got != want {
		t.Errorf("kernel has %+v, want %+v", got, want)
	}
}

func TestZeroLeavesTheSystemsDefaults(t *testing.T) {
	conn := dial(t)
	before := read(t, conn)
	if err := (TCP{}).Apply(conn); err != nil {
		t.Fatal(err)
	}
	want := before
	want.keepAlive = 1
	if got := read(t, conn); got != want {
		t.Errorf("kernel has %+v, want %+v", got, want)
	}
}

func TestValueThatTheSystemRefusesIsNamed(t *testing.T) {
	err := TCP{KeepAliveIdle: 60 * time.Second, KeepAliveCount: 1000}.Apply(dial(t))
	if err == nil {
		t.Fatal("128 probes and more are beyond Linux's bound, and were accepted")
	}
	if want := "set TCP keepalive (idle 1m0s, interval 0s, count 1000): "; len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
		t.Errorf("error is %q, want it to begin %q", err, want)
	}
}

func TestPipesAreLeftAlone(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := (TCP{UserTimeout: time.Minute}).Apply(a); err != nil {
		t.Error(err)
	}
}
