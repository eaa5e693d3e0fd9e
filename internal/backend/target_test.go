package backend

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/sockopt"
)

func TestDialReachesUnixAndTCP(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		target := target(t, network, echo)
		conn, err := target.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, conn)
	}
}

func TestDialLooksHostNamesUp(t *testing.T) {
	target := target(t, "tcp", echo)
	target.Address = strings.Replace(target.Address, "127.0.0.1", "localhost", 1)
	conn, err := target.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, conn)
}

func TestStringIsAsInTheConfiguration(t *testing.T) {
	for want, target := range map[string]Target{
		"unix:/run/postgresql/.s.PGSQL.5432": {Network: "unix", Address: "/run/postgresql/.s.PGSQL.5432"},
		"db.example:5432":                    {Network: "tcp", Address: "db.example:5432"},
	} {
		if got := target.String(); got != want {
			t.Errorf("String is %q, want %q", got, want)
		}
	}
}

func TestMissingSocketAsksForPostgreSQL(t *testing.T) {
	target := &Target{Network: "unix", Address: filepath.Join(t.TempDir(), ".s.PGSQL.5432")}
	_, err := target.Dial(t.Context())
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "dial backend unix:"+target.Address+": connect: the socket does not exist; check that PostgreSQL is running") {
		t.Errorf("error is %q", err)
	}
}

func TestStaleSocketIsCalledStale(t *testing.T) {
	target := target(t, "unix", leave)
	target.Address += "x"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: target.Address, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	_, err = target.Dial(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "ended without removing it") {
		t.Errorf("error is %q", err)
	}
}

func TestForbiddenSocketNamesThePermissions(t *testing.T) {
	target := &Target{Network: "unix", dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	}}
	_, err := target.Dial(t.Context())
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "unix_socket_permissions") {
		t.Errorf("error is %q", err)
	}
}

func TestRefusedTCPNamesListenAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = (&Target{Network: "tcp", Address: l.Addr().String()}).Dial(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "listen_addresses") {
		t.Errorf("error is %q", err)
	}
}

func TestBlackHoleEndsAtTheConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := piped(leave)
		target.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		start := time.Now()
		_, err := target.Dial(t.Context())
		wantTimeout(t, err, "dial backend db.test:5432: connect: ")
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %v, want 5s", took)
		}
	})
}

func TestCancelledContextEndsADialWithItsCause(t *testing.T) {
	for name, play := range map[string]server{"no answer": stay, "no handshake": answering(t, "S", stay)} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("the client has gone")
			time.AfterFunc(time.Second, func() { cancel(cause) })
			start := time.Now()
			_, err := withTLS(piped(play)).Dial(ctx)
			if !errors.Is(err, cause) || time.Since(start) != time.Second {
				t.Errorf("%s: Dial gives %v after %v", name, err, time.Since(start))
			}
		})
	}
}

func TestFullQueueOfASocketIsWaitedFor(t *testing.T) {
	full := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EAGAIN)}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		target := piped(echo)
		room := target.dial
		target.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if time.Since(start) < 2*time.Second {
				return nil, full
			}
			return room(ctx, network, address)
		}
		conn, err := target.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*time.Second+queueLast {
			t.Errorf("entered %v after the start, with room from 2s on", took)
		}
		wantEcho(t, conn)
	})
	synctest.Test(t, func(t *testing.T) {
		target, tries := piped(leave), 0
		target.dial = func(context.Context, string, string) (net.Conn, error) { tries++; return nil, full }
		_, err := target.Dial(t.Context())
		wantTimeout(t, err, "dial backend db.test:5432: connect, the socket's queue is full (PostgreSQL accepts too slowly): ")
		if tries > 5000/50+10 {
			t.Errorf("%d tries in 5 s", tries)
		}
	})
}

func TestSocketOptionThatTheSystemRefusesIsNamed(t *testing.T) {
	target := target(t, "tcp", stay)
	target.TCP = sockopt.TCP{KeepAliveCount: 1000}
	if _, err := target.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "set TCP keepalive") {
		t.Errorf("error is %v", err)
	}
}
