package sockopt

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrAnswered: another process answers on the socket.
var ErrAnswered = errors.New("another process answers there")

// RemoveStale removes the file of a socket that a killed process has left, so that its path can be listened on. The network
// is "unix" or "unixpacket". RemoveStale returns nil if nothing is at the path, [ErrAnswered] if a process answers there, and
// another error if what is there is no socket or can't be removed: connect(2) refuses an ordinary file as it does a socket
// without a listener, and that file is somebody's.
func RemoveStale(network, path string) error {
	conn, err := net.DialTimeout(network, path, time.Second)
	if err == nil {
		_ = conn.Close() // nothing was said
		return ErrAnswered
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil // listening says what is wrong with the path
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("a file that is not a socket is at that path")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("nobody answers there, and its file can't be removed: %w", err)
	}
	return nil
}
