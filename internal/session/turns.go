package session

import (
	"net"
	"os"
	"time"
)

// turns bounds how many handshakes compute at once, so that a flood of them leaves the processors to the sessions.
// Only computing takes a turn: a handshake that waits for its client gives it back, or a handful of slow clients
// would keep everybody out.
type turns chan struct{}

// run calls handshake with a turn. While it runs, the connection that it reads from gives the turn back to wait.
func (t turns) run(conn *net.Conn, deadline time.Time, handshake func() error) error {
	turn := &turnConn{Conn: *conn, turns: t, deadline: deadline}
	if err := turn.acquire(); err != nil {
		return err
	}
	*conn = turn
	err := handshake()
	*conn = turn.Conn
	turn.release()
	return err
}

// turnConn is a connection whose handshake holds a turn, but not while it reads.
type turnConn struct {
	net.Conn
	turns    turns
	deadline time.Time
	held     bool
}

func (t *turnConn) Read(p []byte) (int, error) {
	t.release()
	n, err := t.Conn.Read(p)
	if err != nil {
		return n, err
	}
	return n, t.acquire()
}

// acquire waits for a turn up to the deadline.
func (t *turnConn) acquire() error {
	select {
	case t.turns <- struct{}{}:
		t.held = true
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(t.deadline))
	defer timer.Stop()
	select {
	case t.turns <- struct{}{}:
		t.held = true
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (t *turnConn) release() {
	if t.held {
		t.held = false
		<-t.turns
	}
}
