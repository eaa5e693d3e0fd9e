package takeover

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/testkit/must"
)

const patience = time.Minute

// doorPath is a path for a socket, which may have 107 bytes.
func doorPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "takeover.")
	must.OK(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "door")
}

func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	must.OK(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// holder is a running process with its door open.
type holder struct {
	door       *Server
	path       string
	sockets    Sockets
	reports    chan error
	successors chan *Successor
}

func hold(t testing.TB) *holder {
	t.Helper()
	h := &holder{path: doorPath(t), reports: make(chan error, 10), successors: make(chan *Successor, 1)}
	h.sockets = Sockets{
		Listeners: []net.Listener{listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0")},
		Admin:     listen(t, "unix", h.path+".admin"),
	}
	door, err := Listen(h.path)
	must.OK(t, err)
	h.door = door
	t.Cleanup(door.Close)
	go func() { h.successors <- door.Serve(h.sockets, func(err error) { h.reports <- err }) }()
	return h
}

// serves wants that a connection to the listener's address is accepted by that listener.
func serves(t testing.TB, l net.Listener) {
	t.Helper()
	client, err := net.Dial(l.Addr().Network(), l.Addr().String())
	must.OK(t, err)
	defer client.Close()
	l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(patience))
	conn, err := l.Accept()
	must.OK(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte{1})
	must.OK(t, err)
	_, err = io.ReadFull(client, make([]byte, 1))
	must.OK(t, err)
}

func TestSocketsPassAndNeverClose(t *testing.T) {
	h := hold(t)
	p, err := Take(h.path)
	must.OK(t, err)
	if len(p.Sockets.Listeners) != 2 || p.Sockets.Admin == nil || p.PID != os.Getpid() {
		t.Fatalf("took %+v", p)
	}
	// Both serve, and neither made the sockets of the other one block: a deadline ends an Accept.
	for i, l := range p.Sockets.Listeners {
		if l.Addr().String() != h.sockets.Listeners[i].Addr().String() {
			t.Errorf("listener %d is at %s, want %s", i, l.Addr(), h.sockets.Listeners[i].Addr())
		}
		for _, both := range []net.Listener{l, h.sockets.Listeners[i]} {
			serves(t, both)
			both.(*net.TCPListener).SetDeadline(time.Now())
			if _, err := both.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Accept gives %v", err)
			}
		}
	}

	readied := make(chan error, 1)
	go func() { readied <- p.Ready() }()
	successor := <-h.successors
	if successor == nil || successor.PID != os.Getpid() {
		t.Fatalf("the successor is %+v", successor)
	}
	if _, err := os.Stat(h.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the path is not free: %v", err)
	}
	select {
	case err := <-readied:
		t.Errorf("Ready returns %v before the release", err)
	default:
	}
	must.OK(t, successor.Release())
	must.OK(t, <-readied)
	h.sockets.Close()
	for _, l := range p.Sockets.all() {
		serves(t, l)
	}
	next, err := Listen(h.path)
	must.OK(t, err)
	next.Close()
	p.Sockets.Close()
	if _, err := os.Stat(h.sockets.Admin.Addr().String()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the last owner of a unix socket leaves its file: %v", err)
	}
}

func TestProcessThatEndsBeforeItIsReadyChangesNothing(t *testing.T) {
	h := hold(t)
	for range 3 {
		p, err := Take(h.path)
		must.OK(t, err)
		p.GiveUp()
		if err := <-h.reports; !strings.Contains(err.Error(), "did not become ready") {
			t.Errorf("reported is %v", err)
		}
	}
	for _, l := range h.sockets.all() {
		serves(t, l)
	}
	if info, err := os.Stat(h.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the door is %v, %v", info, err)
	}
}

func TestClosedDoorLeavesNobodyWaiting(t *testing.T) {
	h := hold(t)
	p, err := Take(h.path)
	must.OK(t, err)
	h.door.Close()
	if successor := <-h.successors; successor != nil {
		t.Errorf("a successor: %+v", successor)
	}
	if err := p.Ready(); err == nil {
		t.Error("Ready succeeds")
	}
	serves(t, p.Sockets.Listeners[0])
	p.Sockets.Close()
}

func TestWithoutAPredecessorThereIsNobody(t *testing.T) {
	path := doorPath(t)
	if _, err := Take(path); !errors.Is(err, ErrNobody) {
		t.Errorf("without a file: %v", err)
	}
	leaveStale(t, path)
	if _, err := Take(path); !errors.Is(err, ErrNobody) {
		t.Errorf("with the file of a killed process: %v", err)
	}
	l := listen(t, network, doorPath(t))
	go func() {
		conn, err := l.Accept()
		if err == nil {
			conn.Close()
		}
	}()
	if _, err := Take(l.Addr().String()); !errors.Is(err, ErrNobody) {
		t.Errorf("with one that ends: %v", err)
	}
}

// leaveStale leaves what a killed process does.
func leaveStale(t testing.TB, path string) {
	t.Helper()
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	must.OK(t, err)
	l.SetUnlinkOnClose(false)
	must.OK(t, l.Close())
}

func TestDoorReplacesAStaleFileAndNoLiveOne(t *testing.T) {
	path := doorPath(t)
	leaveStale(t, path)
	door, err := Listen(path)
	must.OK(t, err)
	defer door.Close()
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a second door: %v", err)
	}
	if _, err := Listen(filepath.Join(path, "below")); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a door in no directory: %v", err)
	}
}

// What is not understood is refused whole, and the descriptors that came with it are closed.
func TestForeignSpeechIsRefused(t *testing.T) {
	tcp := listen(t, "tcp", "127.0.0.1:0")
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	must.OK(t, err)
	defer datagrams.Close()
	fd, err := descriptor(tcp)
	must.OK(t, err)
	defer unix.Close(fd)
	file, err := datagrams.(*net.UDPConn).File()
	must.OK(t, err)
	defer file.Close()
	udp := int(file.Fd())

	l := listen(t, network, doorPath(t)).(*net.UnixListener)
	for name, c := range map[string]struct {
		text string
		fds  []int
	}{
		"another version":     {"sockets 2 1 0", []int{fd}},
		"no sockets":          {"sockets 1 1 0", nil},
		"too few":             {"sockets 1 2 0", []int{fd}},
		"too many":            {"sockets 1 1 0", []int{fd, fd}},
		"two admins":          {"sockets 1 1 2", []int{fd, fd, fd}},
		"none to serve":       {"sockets 1 0 1", []int{fd}},
		"negative":            {"sockets 1 2 -1", []int{fd}},
		"another language":    {"GET / HTTP/1.1", []int{fd}},
		"a long text":         {"sockets 1 1 0" + strings.Repeat(" ", 100), []int{fd}},
		"no listening socket": {"sockets 1 1 1", []int{fd, udp}},
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t)
			sent := make(chan error, 1)
			go func() {
				conn, err := l.AcceptUnix()
				if err == nil {
					_, _, err = conn.WriteMsgUnix([]byte(c.text), unix.UnixRights(c.fds...), nil)
					conn.Close()
				}
				sent <- err
			}()
			_, err := Take(l.Addr().String())
			if err == nil || errors.Is(err, ErrNobody) {
				t.Errorf("Take gives %v", err)
			}
			must.OK(t, <-sent)
			if after := descriptors(t); after != before {
				t.Errorf("%d descriptors are open, %d were", after, before)
			}
		})
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must.OK(t, err)
	return len(entries)
}

func TestSocketsAreForTheSameUserAndRoot(t *testing.T) {
	for _, c := range []struct {
		peer, user int
		want       bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1000, 0, false}, {1001, 1000, false}} {
		if got := (peer{UID: c.peer}).trusted(c.user); got != c.want {
			t.Errorf("user %d trusts user %d: %v", c.user, c.peer, got)
		}
	}
}
