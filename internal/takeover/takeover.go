// Package takeover hands listening sockets from a running process to the one that replaces it, so that no connection is
// refused in between: the sockets never close, since there is always a process that holds them.
//
// The running process opens a [Server], a unix socket of mode 0600, and waits there. Its successor calls [Take]. Three
// messages pass, each a packet of a SOCK_SEQPACKET socket:
//
//  1. The old process sends the sockets (SCM_RIGHTS, unix(7)). It goes on serving them.
//  2. The new one says that it serves them too. Until it has said so, its end changes nothing.
//  3. The old one closes the door and says that the path is free. It then does what its owner wants; a drain.
//
// Each side asks the kernel who the other one is (SO_PEERCRED): sockets go to the same user or root only, and are taken
// from the same user or root only. The package knows nothing of what is served on the sockets.
package takeover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets are what is handed over. The listeners are TCP's or unix.
type Sockets struct {
	Listeners []net.Listener
	Admin     net.Listener // nil: none
}

// all are the sockets in the order in which they are sent.
func (s Sockets) all() []net.Listener {
	if s.Admin == nil {
		return s.Listeners
	}
	return append(s.Listeners[:len(s.Listeners):len(s.Listeners)], s.Admin)
}

// Close closes what was taken and is not wanted.
func (s Sockets) Close() {
	for _, l := range s.all() {
		l.Close()
	}
}

// The messages. The first has the number of listeners, and of admin sockets behind them.
const (
	offerFormat = "sockets 1 %d %d"
	ready       = "ready"
	released    = "yours"

	maxMessage = 64
	maxSockets = 253 // SCM_MAX_FD, include/net/scm.h
)

// How long each side waits for the other.
const (
	offerTimeout = 10 * time.Second // for the sockets, which the old process sends at once
	readyTimeout = time.Minute      // for the new process, which reads its policy
	yoursTimeout = 10 * time.Second
)

// sendSockets sends the offer. The descriptors that travel are copies: a listener's own File would switch the socket that
// both copies share to blocking mode.
func sendSockets(conn *net.UnixConn, sockets Sockets) error {
	all := sockets.all()
	if len(all) > maxSockets {
		return fmt.Errorf("%d sockets can't be handed over at once; the maximum is %d", len(all), maxSockets)
	}
	var copies []int
	defer func() { closeAll(copies) }()
	for _, l := range all {
		fd, err := descriptor(l)
		if err != nil {
			return fmt.Errorf("copy the socket of %s: %w", l.Addr(), err)
		}
		copies = append(copies, fd)
	}
	text := fmt.Sprintf(offerFormat, len(sockets.Listeners), len(all)-len(sockets.Listeners))
	if _, _, err := conn.WriteMsgUnix([]byte(text), unix.UnixRights(copies...), nil); err != nil {
		return fmt.Errorf("send the sockets: %w", err)
	}
	return nil
}

// descriptor is a copy of a listener's descriptor.
func descriptor(l net.Listener) (int, error) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a %T has no descriptor", l)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if controlErr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); controlErr != nil {
		return -1, controlErr
	}
	return fd, err
}

// errSilent is returned when the other side hung up instead of speaking.
var errSilent = errors.New("it closed the connection")

// receiveSockets reads the offer and makes listeners of it.
func receiveSockets(conn *net.UnixConn) (Sockets, error) {
	text := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4*maxSockets))
	n, rightsLen, flags, _, err := conn.ReadMsgUnix(text, rights)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET):
		return Sockets{}, errSilent
	case err != nil:
		return Sockets{}, err
	}
	descriptors, err := parseRights(rights[:rightsLen])
	defer closeAll(descriptors) // listeners have copies
	if err != nil {
		return Sockets{}, err
	}
	var listeners, admin int
	if _, err := fmt.Sscanf(string(text[:n]), offerFormat, &listeners, &admin); err != nil || flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 ||
		listeners < 1 || admin < 0 || admin > 1 || listeners+admin != len(descriptors) {
		return Sockets{}, fmt.Errorf("it speaks another protocol: %q with %d sockets", text[:n], len(descriptors))
	}
	return adopt(descriptors, listeners)
}

func parseRights(rights []byte) (descriptors []int, _ error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("read the descriptors: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return descriptors, fmt.Errorf("read the descriptors: %w", err)
		}
		descriptors = append(descriptors, fds...)
	}
	return descriptors, nil
}

// adopt makes listeners of descriptors, the first so many of which are [Sockets.Listeners].
func adopt(descriptors []int, listeners int) (s Sockets, _ error) {
	for i, fd := range descriptors {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			s.Close()
			return Sockets{}, fmt.Errorf("copy a received descriptor: %w", err)
		}
		file := os.NewFile(uintptr(copied), "socket")
		l, err := net.FileListener(file)
		file.Close()
		if err != nil {
			s.Close()
			return Sockets{}, fmt.Errorf("listen on a received socket: %w", err)
		}
		if i < listeners {
			s.Listeners = append(s.Listeners, l)
		} else {
			s.Admin = l
		}
	}
	return s, nil
}

// keepFiles makes the listeners leave their socket files alone when they are closed: another process serves them.
func (s Sockets) keepFiles(keep bool) {
	for _, l := range s.all() {
		if socket, ok := l.(*net.UnixListener); ok {
			socket.SetUnlinkOnClose(!keep)
		}
	}
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		unix.Close(fd)
	}
}

// peer is the process at the other end, as the kernel knows it.
type peer struct{ PID, UID int }

const root = 0

// trusted reports whether a process of the user may hand sockets to the peer, and take them from it. Root could have them
// anyway (ptrace(2)). Nobody else gets connections by taking them, or by putting a door of their own at the path.
func (p peer) trusted(user int) bool { return p.UID == user || p.UID == root }
