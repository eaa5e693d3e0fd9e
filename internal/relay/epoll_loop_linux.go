package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
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

	received   [loopRead]byte // from a socket
	portion    int            // of received that a session may fill in the running batch
	opened     [loopRead]byte // plaintext of a client
	memory     scratch
	slots      []*epollSession // by the number in an event; 0 is the eventfd's
	free       []uint32
	generation uint32 // of the last session that got a slot
	events     [128]unix.EpollEvent

	window window

	mu       sync.Mutex
	commands []command
}

// How much is read at once from a socket, and so how long a session may keep its loop: a portion is opened or sealed, and
// sent, before the next session's event. Alone it gets the most; where others wait, 16 KiB are a few tens of microseconds.
const (
	loopRead   = 128 << 10
	sharedRead = 16 << 10
)

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

// batch handles what is ready until nothing is.
func (l *eventLoop) batch() {
	l.window.open(time.Now())
	for {
		n := pollEvents(l.poll, l.events[:])
		if n == 0 {
			break
		}
		l.portion = loopRead
		if n > 1 {
			l.portion = sharedRead
		}
		for i := range l.events[:n] {
			l.handle(&l.events[i])
		}
		if l.window.pass(time.Now()) {
			l.set.balance(l)
		}
	}
	l.window.close(time.Now())
}

// handle gives one event to its session. The number in the event is that of the slot, and which side it is.
func (l *eventLoop) handle(event *unix.EpollEvent) {
	number := uint32(event.Fd)
	if number == 0 {
		l.runCommands()
		return
	}
	s := l.slots[number>>1]
	// A session that has ended in this batch may have left its slot to another.
	if s != nil && s.generation == uint32(event.Pad) {
		s.ready(number&1, event.Events)
	}
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

// runCommands does what was posted.
func (l *eventLoop) runCommands() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:]) // whatever it counts, all commands are run
	l.mu.Lock()
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, c := range commands {
		if now := c.session.loop.Load(); now != l {
			now.post(c.session, c.what) // it has moved meanwhile
			continue
		}
		c.session.do(c.what)
	}
}

// take makes the session another loop's: it arrives there before anything else that is posted for it.
func (l *eventLoop) take(s *epollSession) {
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

// window measures how busy a loop is: the share of time that it spends in batches, as far as the process has got
// processor time for it. A loop that others keep from running is not helped by a second one.
type window struct {
	begin, since time.Time // of the window; of what is not counted yet
	busy         time.Duration
	used         time.Duration // processor time of the process at the begin
	turn         uint32        // the number of this window
	load         atomic.Int64  // of the last whole window, in per cent
	until        atomic.Int64  // its end, in nanoseconds since processStart
}

// windowLength is over how long a loop's load is measured.
const windowLength = 100 * time.Millisecond

// processStart turns moments into numbers.
var processStart = time.Now()

// open begins a batch.
func (w *window) open(now time.Time) {
	if now.Sub(w.begin) > 2*windowLength { // it has slept for long
		w.begin, w.busy, w.used = now, 0, processTime()
	}
	w.since = now
}

// close ends a batch.
func (w *window) close(now time.Time) {
	w.busy += now.Sub(w.since)
	w.since = now
}

// pass counts up to now, and reports whether the window is over and a new one has begun.
func (w *window) pass(now time.Time) bool {
	length := now.Sub(w.begin)
	if length < windowLength {
		return false
	}
	w.close(now)
	used := processTime()
	w.load.Store(int64(100 * min(w.busy, used-w.used) / length))
	w.until.Store(int64(now.Sub(processStart)))
	w.begin, w.busy, w.used = now, 0, used
	w.turn++
	return true
}

// processTime is the processor time that the process has used so far.
func processTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// recent is the load of the last window, in per cent; 0 if that is long ago. It may be called from any goroutine.
func (w *window) recent() int64 {
	if time.Since(processStart)-time.Duration(w.until.Load()) > 3*windowLength {
		return 0
	}
	return w.load.Load()
}
