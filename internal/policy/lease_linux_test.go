package policy

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/testkit/must"
)

func TestWriterOfAFileIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "text")
	reader, err := os.Open(path)
	must.OK(t, err)
	defer reader.Close()
	check := func(want bool) {
		t.Helper()
		if open, known := openForWriting(reader); open != want && known || !known {
			t.Errorf("open %v, known %v; want open %v", open, known, want)
		}
	}
	check(false)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	must.OK(t, err)
	check(true)
	must.OK(t, writer.Close())
	check(false)
}

// A writer that comes while the lease is held makes the kernel send SIGIO, whose default is to end the process. Go's
// runtime has a handler for it that does nothing.
func TestBrokenLeaseDoesNotEndTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "text")
	reader, err := os.Open(path)
	must.OK(t, err)
	defer reader.Close()
	breakLease := func() {
		t.Helper()
		_, err := unix.FcntlInt(reader.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
		must.OK(t, err)
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); !errors.Is(err, unix.EWOULDBLOCK) {
			unix.Close(fd)
			t.Fatalf("open against a lease: %v", err)
		}
		_, err = unix.FcntlInt(reader.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		must.OK(t, err)
	}
	breakLease() // nobody asked for the signal: the case of the program

	// And the signal was really sent.
	got := make(chan os.Signal, 1)
	signal.Notify(got, unix.SIGIO)
	defer signal.Stop(got)
	breakLease()
	select {
	case <-got:
	case <-time.After(time.Minute):
		t.Error("no SIGIO: the test has shown nothing")
	}
}
