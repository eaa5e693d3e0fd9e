package takeover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrNobody is returned when there is no process to take over from.
var ErrNobody = errors.New("no process answers there")

// Predecessor is the process that served the sockets so far, and does until Ready.
type Predecessor struct {
	Sockets Sockets // copies: they are the caller's
	PID     int
	conn    *net.UnixConn
}

// Take takes over the sockets of the process that waits behind the door at the path. Without one the error is [ErrNobody],
// and nothing stands in the way of opening sockets anew.
func Take(path string) (*Predecessor, error) {
	conn, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNobody
	}
	if err != nil {
		return nil, fmt.Errorf("take over at %s: %w", path, err)
	}
	predecessor, err := receive(conn)
	switch {
	case errors.Is(err, errSilent): // it ends, too
		err = ErrNobody
	case err != nil:
		err = fmt.Errorf("take over at %s: %w", path, err)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return predecessor, nil
}

func receive(conn *net.UnixConn) (*Predecessor, error) {
	who, err := peerOf(conn)
	if err != nil {
		return nil, fmt.Errorf("identify the process that offers sockets: %w", err)
	}
	if !who.trusted(os.Geteuid()) {
		return nil, fmt.Errorf("process %d of user %d offers sockets; only user %d and root may", who.PID, who.UID, os.Geteuid())
	}
	conn.SetDeadline(time.Now().Add(offerTimeout))
	sockets, err := receiveSockets(conn)
	if err != nil {
		return nil, fmt.Errorf("receive the sockets of process %d: %w", who.PID, err)
	}
	return &Predecessor{Sockets: sockets, PID: who.PID, conn: conn}, nil
}

// Ready tells the predecessor that its sockets are served, and returns when it has let go of them and of the path. An
// error means that it ended or is stuck: the sockets are the caller's in any case, and their files, too.
func (p *Predecessor) Ready() error {
	defer p.conn.Close()
	p.Sockets.keepFiles(false)
	p.conn.SetDeadline(time.Now().Add(yoursTimeout))
	if _, err := p.conn.Write([]byte(ready)); err != nil {
		return fmt.Errorf("report to process %d that its sockets are served: %w", p.PID, err)
	}
	if err := expect(p.conn, released); err != nil {
		return fmt.Errorf("wait for process %d to release its sockets: %w", p.PID, err)
	}
	return nil
}

// GiveUp closes what was taken. The predecessor goes on as if nothing had been.
func (p *Predecessor) GiveUp() {
	p.Sockets.Close()
	p.conn.Close()
}
