package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// recorder is a backend that remembers every connection and every byte, to show what reached it, or that nothing did.
// To a startup packet it answers what a client needs to be logged in; everything else it only takes.
type recorder struct {
	Address string // for backend.address

	mu    sync.Mutex
	conns []*recorded
	hold  chan struct{} // see holdCancels
}

// recorded is one connection.
type recorded struct {
	mu    sync.Mutex
	bytes []byte
	ended bool // the proxy has ended it
}

// recorderKey is the cancel key of every session.
var recorderKey = cancelKey{pid: 4711, secret: []byte{0xca, 0x11, 0xab, 0x1e}}

// record starts a recorder.
func record(t testing.TB) *recorder {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Address: "unix:" + path}
	var serving sync.WaitGroup
	serving.Go(func() { r.accept(listener, &serving) })
	t.Cleanup(func() {
		listener.Close()
		r.release()
		serving.Wait()
	})
	return r
}

// shortDir is a directory for sockets, whose paths may have 107 bytes.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (r *recorder) accept(listener net.Listener, serving *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		c := &recorded{}
		r.mu.Lock()
		r.conns = append(r.conns, c)
		r.mu.Unlock()
		serving.Go(func() { r.serve(conn, c) })
	}
}

func (r *recorder) serve(conn net.Conn, c *recorded) {
	defer conn.Close()
	buf := make([]byte, 64<<10)
	for first := true; ; first = false {
		n, err := conn.Read(buf)
		c.note(buf[:n], err)
		if err != nil {
			return
		}
		if first && bytes.HasPrefix(buf[4:n], []byte{0x04, 0xd2, 0x16, 0x2e}) {
			r.wait()
			return
		}
		if first {
			io.WriteString(conn, loginAnswer)
		}
	}
}

// loginAnswer is AuthenticationOk, BackendKeyData with [recorderKey], ReadyForQuery.
var loginAnswer = "R\x00\x00\x00\x08\x00\x00\x00\x00" +
	"K\x00\x00\x00\x0c\x00\x00\x12\x67" + string(recorderKey.secret) +
	"Z\x00\x00\x00\x05I"

// holdCancels makes connections with a CancelRequest stay open until release.
func (r *recorder) holdCancels() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = make(chan struct{})
}

// release ends what holdCancels has held.
func (r *recorder) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hold != nil {
		close(r.hold)
		r.hold = nil
	}
}

func (r *recorder) wait() {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
}

func (c *recorded) note(p []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes = append(c.bytes, p...)
	c.ended = err != nil
}

func (c *recorded) text() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.bytes)
}

// dials is how many connections there were.
func (r *recorder) dials() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// connection gives the n-th connection, counted from 0, once it is there and has sent as many bytes.
func (r *recorder) connection(t testing.TB, n, bytes int) *recorded {
	t.Helper()
	var found *recorded
	eventually.OK(t, patience, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.conns) <= n {
			return fmt.Errorf("the backend has had %d connections", len(r.conns))
		}
		found = r.conns[n]
		if got := len(found.text()); got < bytes {
			return fmt.Errorf("the backend has received %d bytes, want %d", got, bytes)
		}
		return nil
	})
	return found
}

// untouched wants that the backend was never dialled: no connection, and so no byte.
func (r *recorder) untouched(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		t.Errorf("the backend was dialled and received %d bytes: %.100q", len(c.text()), c.text())
	}
}
