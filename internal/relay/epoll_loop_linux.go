package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// eventLoop serves many sessions in one goroutine. The goroutine sits in one RawConn.Read of the loop's epoll descriptor, so
// that Go's own poller wakes it when any of its sockets has something: no thread is locked, no system call blocks, an
// idle loop costs nothing, and the garbage collector stops it like any other goroutine.
//
// Everything but post, take and busy belongs to that goroutine.
type eventLoop struct {
	set  *Epoll
	poll int // the epoll descriptor
	wake int // an eventfd: there are commands

	received   [loopRead]byte   // from a socket
	opened     [loopRead]byte   // plaintext of a client
	portion    int              // of received that a session may fill at the moment
	bulk       [maxEvents]uint8 // events of the running batch, by their index, whose sessions move bulk
	memory     scratch
	slots      []*epollSession // by the number in an event; 0 is the eventfd's
	free       []uint32
	generation uint32 // of the last session that got a slot
	events     [maxEvents]unix.EpollEvent

	window window

	mu       sync.Mutex
	commands []command
}

// sealedSize is room for what loopRead becomes in records, and for what TLS itself has to say.
const sealedSize = loopRead + loopRead/maxRecord*64 + 4<<10

// command is what another goroutine asks of a loop: something to be done to a session.
type command struct {
	session *epollSession
	what    func(*epollSession)
}

// newEventLoop starts a loop.
func newEventLoop(set *Epoll) (*eventLoop, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(poll)
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	err = errors.Join(
		unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN}),
		unix.SetNonblock(poll, true)) // os.NewFile hands what is non-blocking to Go's poller
	file := os.NewFile(uintptr(poll), "epoll")
	raw, rawErr := file.SyscallConn()
	// A file that Go's poller does not have takes no deadline.
	if err := errors.Join(err, rawErr, file.SetReadDeadline(time.Time{})); err != nil {
		file.Close()
		unix.Close(wake)
		return nil, fmt.Errorf("set up epoll: %w", err)
	}
	l := &eventLoop{set: set, poll: poll, wake: wake, slots: []*epollSession{nil}}
	l.memory.out = make([]byte, 0, sealedSize)
	go l.run(file, raw)
	return l, nil
}

// run is the loop's goroutine.
func (l *eventLoop) run(file *os.File, raw syscall.RawConn) {
	defer file.Close()
	_ = raw.Read(func(uintptr) bool { // as long as the process lives
		l.batch()
		return false
	})
}

// post asks the loop to do something to a session, in the loop's goroutine.
func (l *eventLoop) post(s *epollSession, what func(*epollSession)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.postLocked(s, what)
}

func (l *eventLoop) postLocked(s *epollSession, what func(*epollSession)) {
	l.commands = append(l.commands, command{s, what})
	if len(l.commands) == 1 {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(l.wake, one[:]) // only a full counter refuses, and that wakes too
	}
}

// commandsAtOnce is how many commands are run before the sessions that have something to relay get their turn: a sweep or a
// drain ends thousands at once, and each end costs as much as some messages.
const commandsAtOnce = 16

// runCommands does some of what was posted. While more is there, the eventfd stays readable.
func (l *eventLoop) runCommands() {
	l.mu.Lock()
	n := min(len(l.commands), commandsAtOnce)
	commands := l.commands[:n:n]
	if l.commands = l.commands[n:]; len(l.commands) == 0 {
		l.commands = nil
		var count [8]byte
		_, _ = unix.Read(l.wake, count[:]) // it counts the times that there was a first command
	}
	l.mu.Unlock()
	for _, c := range commands {
		if now := c.session.loop.Load(); now != l {
			now.post(c.session, c.what) // it has moved meanwhile
			continue
		}
		c.session.do(c.what)
	}
}

// adopt makes the session another loop's: it arrives there before anything else that is posted for it.
func (l *eventLoop) adopt(s *epollSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.loop.Store(l)
	l.postLocked(s, (*epollSession).arrive)
}

// admit gives a session a slot.
func (l *eventLoop) admit(s *epollSession) {
	if len(l.free) == 0 {
		l.free = append(l.free, uint32(len(l.slots)))
		l.slots = append(l.slots, nil)
	}
	s.slot = l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	l.slots[s.slot] = s
	l.generation++
	s.generation = l.generation
}

// dismiss takes the slot back. The session's descriptors have left epoll.
func (l *eventLoop) dismiss(s *epollSession) {
	l.slots[s.slot] = nil
	l.free = append(l.free, s.slot)
}

// watch asks epoll for the events of a side. None takes the descriptor out, since epoll tells of a hang-up even those
// who asked for nothing, again and again.
func (l *eventLoop) watch(s *epollSession, side uint32, events uint32) error {
	h := s.half(side)
	if h.watched == events {
		return nil
	}
	operation := unix.EPOLL_CTL_MOD
	switch {
	case h.watched == 0:
		operation = unix.EPOLL_CTL_ADD
	case events == 0:
		operation = unix.EPOLL_CTL_DEL
	}
	event := unix.EpollEvent{Events: events, Fd: int32(s.slot<<1 | side), Pad: int32(s.generation)}
	if err := unix.EpollCtl(l.poll, operation, h.fd, &event); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	h.watched = events
	return nil
}
