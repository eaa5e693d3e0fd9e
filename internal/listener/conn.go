package listener

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// Conn is an accepted connection that holds one of its server's slots until Close. It is what [Server.Handle] gets.
//
// The embedded connection's ReadFrom and WriteTo are hidden on purpose: the relay chooses how bytes move. The socket
// beneath stays reachable through SyscallConn and NetConn for a relay that takes it out of Go's poller: closing
// NetConn's connection gives up the descriptor and keeps the slot, until Close frees it.
type Conn struct {
	net.Conn
	server *Server
	closed atomic.Bool
}

// Close closes the socket. The first call frees the slot and ends the server's knowledge of the connection.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	if c.closed.CompareAndSwap(false, true) {
		c.server.forget(c)
	}
	return err
}

// CloseWrite ends the writing side and leaves the reading side open: a FIN in TCP. The error is
// errors.ErrUnsupported if the connection has no such thing.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// SyscallConn returns the socket. The error is errors.ErrUnsupported if there is none, as in a test with a pipe.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return socket.SyscallConn()
}

// NetConn is the connection beneath, as [crypto/tls.Conn.NetConn] is.
func (c *Conn) NetConn() net.Conn { return c.Conn }
