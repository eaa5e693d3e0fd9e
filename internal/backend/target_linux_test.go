package backend

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func TestRealSocketWithAFullQueueAnswersEAGAIN(t *testing.T) {
	path := filepath.Join(t.TempDir(), "full")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	target := &Target{Network: "unix", Address: path}
	first, err := target.Dial(t.Context()) // a backlog of 0 holds one
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	seen, once := make(chan struct{}), sync.Once{}
	target.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if errors.Is(err, syscall.EAGAIN) {
			once.Do(func() { close(seen) })
		}
		return conn, err
	}
	second := make(chan error, 1)
	go func() {
		conn, err := target.Dial(t.Context())
		if err == nil {
			conn.Close()
		}
		second <- err
	}()
	select {
	case <-seen:
	case err := <-second:
		t.Fatalf("second Dial gives %v with the queue full, want that it waits", err)
	}
	accepted, _, err := syscall.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(accepted)
	if err := <-second; err != nil {
		t.Errorf("second Dial: %v", err)
	}
}
