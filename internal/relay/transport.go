package relay

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// Transport stands between crypto/tls and a client's socket. To crypto/tls it is the socket, and it adds what
// crypto/tls lacks for a relay: records that leave in one system call, a read that does not wait, and the
// difference between a peer that said goodbye and one whose connection just ended.
//
// Read is for one goroutine at a time. Write may be called while Read is, since crypto/tls answers a
// KeyUpdate from inside Read.
type Transport struct {
	net.Conn
	raw     syscall.RawConn // nil: the connection is no socket, and every read waits
	memory  *scratch        // of a loop that moves the bytes of the socket itself; nil: it doesn't
	replay  []byte          // read before TLS began, and part of it
	hurry   bool            // reads do not wait
	drained bool            // the last read got less than it asked for: the socket is empty
	ended   atomic.Bool

	mu     sync.Mutex
	corked bool
	out    []byte
}

// NewTransport wraps a client's connection. TLS starts with the bytes of replay: those of a direct TLS opening
// that have been read to recognise it, and nothing else ever.
func NewTransport(conn net.Conn, replay []byte) *Transport {
	t := &Transport{Conn: conn, replay: replay}
	if socket, ok := conn.(syscall.Conn); ok {
		t.raw, _ = socket.SyscallConn()
	}
	return t
}

// errWouldBlock is what a read that does not wait returns on an empty socket. It is temporary, so crypto/tls keeps
// the part of a record that it has and may be called again.
var errWouldBlock error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no data yet" }
func (wouldBlock) Timeout() bool   { return false }
func (wouldBlock) Temporary() bool { return true }

// scratch is what a loop's records come from and go to. One serves all sessions of a loop, one after the other.
type scratch struct {
	in  []byte // has arrived, to be opened
	out []byte // sealed, to be sent
}

// reset forgets what the session before has left, if it ended in the middle.
func (m *scratch) reset() { m.in, m.out = nil, m.out[:0] }

// Read returns the replayed bytes first.
func (t *Transport) Read(p []byte) (int, error) {
	if m := t.memory; m != nil {
		if len(m.in) == 0 {
			return 0, errWouldBlock
		}
		n := copy(p, m.in)
		m.in = m.in[n:]
		return n, nil
	}
	if len(t.replay) > 0 {
		n := copy(p, t.replay)
		if t.replay = t.replay[n:]; len(t.replay) == 0 {
			t.replay = nil
		}
		return n, nil
	}
	var n int
	var err error
	switch {
	case !t.hurry:
		n, err = t.Conn.Read(p)
	case t.drained:
		return 0, errWouldBlock
	default:
		n, err = t.readNow(p)
	}
	t.drained = n < len(p)
	if err == io.EOF {
		t.ended.Store(true)
	}
	return n, err
}

// readNow reads what the socket has, and errWouldBlock when it has nothing.
func (t *Transport) readNow(p []byte) (n int, err error) {
	waitErr := t.raw.Read(func(fd uintptr) bool {
		n, err = readSocket(fd, p)
		return true
	})
	if waitErr != nil {
		return 0, waitErr
	}
	return n, err
}

// Ended reports whether the peer has ended its stream of bytes below TLS. An [io.EOF] from crypto/tls with
// Ended false is a close_notify, with Ended true a connection that broke off, which anybody between the two
// can cause.
func (t *Transport) Ended() bool { return t.ended.Load() }

// Write sends p, or keeps it until the end of a batch.
func (t *Transport) Write(p []byte) (int, error) {
	if m := t.memory; m != nil {
		m.out = append(m.out, p...)
		return len(p), nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.corked {
		t.out = append(t.out, p...)
		return len(p), nil
	}
	return t.Conn.Write(p)
}

// cork starts a batch in the given buffer.
func (t *Transport) cork(buffer []byte) {
	t.mu.Lock()
	t.corked, t.out = true, buffer[:0]
	t.mu.Unlock()
}

// uncork sends the batch in one write, and returns the buffer for the next.
func (t *Transport) uncork() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	buffer := t.out
	t.corked, t.out = false, nil
	_, err := t.Conn.Write(buffer)
	return buffer, err
}

// CloseWrite ends the stream to the client, where its connection can do that.
func (t *Transport) CloseWrite() error { return closeWrite(t.Conn) }

// closeWrite tells the peer that nothing more will come.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
