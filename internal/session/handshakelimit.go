package session

import (
	"net"
	"os"
	"time"
)

// handshakeSlots bounds how many handshakes compute at once, so that a flood of them leaves the processors to the sessions.
// Only computing takes a turn: a handshake that waits for its client has none, or a handful of slow clients would
// keep everybody out.
type handshakeSlots chan struct{}

// run calls handshake, which begins with a read. While it runs, the connection beneath it takes a turn for what has
// been read, and gives it back before it may have to wait for the client. A panic gives it back too.
func (t handshakeSlots) run(conn *net.Conn, deadline time.Time, handshake func() error) error {
	turn := &slotConn{Conn: *conn, slots: t, deadline: deadline}
	*conn = turn
	defer func() {
		*conn = turn.Conn
		turn.release()
	}()
	return handshake()
}

// slotConn is a connection whose handshake holds a turn, but not while it reads or writes.
type slotConn struct {
	net.Conn
	slots    handshakeSlots
	deadline time.Time
	held     bool
}

func (t *slotConn) Read(p []byte) (int, error) {
	t.release()
	n, err := t.Conn.Read(p)
	if err != nil {
		return n, err
	}
	return n, t.acquire()
}

// Write gives the turn back, since a client that takes nothing makes it wait. No new one is taken: what follows a
// flight is the wait for the answer to it.
func (t *slotConn) Write(p []byte) (int, error) {
	t.release()
	return t.Conn.Write(p)
}

// acquire waits for a turn up to the deadline.
func (t *slotConn) acquire() error {
	select {
	case t.slots <- struct{}{}:
		t.held = true
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(t.deadline))
	defer timer.Stop()
	select {
	case t.slots <- struct{}{}:
		t.held = true
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (t *slotConn) release() {
	if t.held {
		t.held = false
		<-t.slots
	}
}
