package takeover

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel (unix(7), SO_PEERCRED).
func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var credentials *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) {
		credentials, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlErr != nil {
		return peer{}, controlErr
	}
	if err != nil {
		return peer{}, err
	}
	return peer{PID: int(credentials.Pid), UID: int(credentials.Uid)}, nil
}
