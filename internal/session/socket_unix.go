//go:build unix

package session

import (
	"net"
	"syscall"
)

// pending reports whether bytes have arrived that nobody has read. It does not wait and takes none. For a
// connection that is no socket it is false.
func pending(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var peek [1]byte
	// An error is a closed socket's, which has nothing.
	_ = raw.Read(func(fd uintptr) bool {
		n, _, _ = syscall.Recvfrom(int(fd), peek[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return n > 0
}
