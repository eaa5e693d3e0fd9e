package takeover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"pgmtls-proxy/internal/sockopt"
)

// network is a unix socket that keeps messages apart.
const network = "unixpacket"

// retry is how long a door waits after an accept that failed, for want of descriptors as a rule.
const retry = time.Second

// Server is where a running process waits for its successor. Its methods may be called from any goroutine.
type Server struct {
	listener *net.UnixListener
	closed   chan struct{}

	mu     sync.Mutex
	isOpen bool
	peer   *net.UnixConn // who is being served; nil: nobody
}

// Listen makes a door. A socket file that a killed process has left is replaced, one at which somebody answers is not.
func Listen(path string) (*Server, error) {
	address := &net.UnixAddr{Name: path, Net: network}
	if err := sockopt.RemoveStale(network, path); errors.Is(err, sockopt.ErrAnswered) {
		return nil, fmt.Errorf("open takeover socket %s: %w; stop it, or name another path", path, err)
	} else if err != nil {
		return nil, fmt.Errorf("open takeover socket %s: %w; name another path, or move it away", path, err)
	}
	l, err := net.ListenUnix(network, address)
	if err != nil {
		return nil, fmt.Errorf("open takeover socket %s: %w", path, err)
	}
	// Between the two calls the mode is the umask's. Whoever gets in then is looked at like everybody.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect takeover socket %s: %w", path, err)
	}
	return &Server{listener: l, closed: make(chan struct{}), isOpen: true}, nil
}

// Close closes the door and removes its file. Who is being served in it is left alone with what it has got.
func (d *Server) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isOpen {
		return
	}
	d.isOpen = false
	close(d.closed)
	d.listener.Close()
	if d.peer != nil {
		d.peer.Close()
	}
}

// Serve hands copies of the sockets to one process after another until one of them serves them: the successor. The door is
// closed then, and the sockets' files are the successor's. It gives nil when Close was called first. What went wrong
// with the others is reported.
func (d *Server) Serve(sockets Sockets, report func(error)) *Successor {
	for {
		conn, err := d.listener.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			report(fmt.Errorf("accept on the takeover socket: %w", err))
			if !d.wait(retry) {
				return nil
			}
			continue
		}
		if !d.enter(conn) {
			conn.Close()
			return nil
		}
		successor, err := offer(conn, sockets)
		open := d.leave()
		if err == nil && open {
			sockets.keepFiles(true)
			d.Close()
			return successor
		}
		conn.Close()
		if !open {
			return nil
		}
		report(err)
	}
}

// enter makes a connection the one that Close ends.
func (d *Server) enter(conn *net.UnixConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isOpen {
		d.peer = conn
	}
	return d.isOpen
}

// leave removes it, and reports whether the door is still open.
func (d *Server) leave() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peer = nil
	return d.isOpen
}

func (d *Server) wait(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.closed:
		return false
	}
}

// offer sends the sockets and waits until they are served.
func offer(conn *net.UnixConn, sockets Sockets) (*Successor, error) {
	who, err := peerOf(conn)
	if err != nil {
		return nil, fmt.Errorf("identify the process that requests the sockets: %w", err)
	}
	if !who.trusted(os.Geteuid()) {
		return nil, fmt.Errorf("process %d of user %d requests the sockets; only user %d and root may have them", who.PID, who.UID, os.Geteuid())
	}
	conn.SetDeadline(time.Now().Add(readyTimeout))
	if err := sendSockets(conn, sockets); err != nil {
		return nil, err
	}
	if err := expect(conn, ready); err != nil {
		return nil, fmt.Errorf("process %d received the sockets and did not become ready: %w", who.PID, err)
	}
	return &Successor{PID: who.PID, conn: conn}, nil
}

// Successor is the process that serves the sockets from now on.
type Successor struct {
	PID  int
	conn *net.UnixConn
}

// Release tells the successor that the door's path is free.
func (s *Successor) Release() error {
	defer s.conn.Close()
	if _, err := s.conn.Write([]byte(released)); err != nil {
		return fmt.Errorf("report to process %d that the takeover is complete: %w", s.PID, err)
	}
	return nil
}

// expect reads one message.
func expect(conn *net.UnixConn, want string) error {
	text := make([]byte, maxMessage)
	n, err := conn.Read(text)
	if err != nil {
		return err
	}
	if string(text[:n]) != want {
		return fmt.Errorf("it sent %q instead of %q", text[:n], want)
	}
	return nil
}
