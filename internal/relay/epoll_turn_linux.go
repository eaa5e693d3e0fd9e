package relay

import "golang.org/x/sys/unix"

// How much is read at once from a socket, and so how long a session may keep its loop: a portion is opened or sealed, and
// sent, before the next session's event. Bulk moves in the large portion, which costs less per byte. Where a small message
// waits, it is the shared one: a few tens of microseconds.
const (
	loopRead   = 128 << 10
	sharedRead = 16 << 10
)

const (
	// A session moves bulk once it has got bulkRun bytes without a read of less than smallRead in between.
	bulkRun   = 64 << 10
	smallRead = 4 << 10
	// maxEvents is how many events a loop takes from epoll at once.
	maxEvents = 128
)

// batch serves what is ready until nothing is.
func (l *eventLoop) batch() {
	l.window.open(now())
	for {
		n := pollEvents(l.poll, l.events[:])
		if n == 0 {
			return
		}
		l.serve(l.events[:n])
		if l.window.pass(now()) {
			l.set.balance(l)
		}
	}
}

// serve handles a batch of events, those of sessions that move bulk behind all others.
func (l *eventLoop) serve(events []unix.EpollEvent) {
	l.portion = loopRead
	if len(events) > 1 {
		l.portion = sharedRead
	}
	bulk, others := l.bulk[:0], false
	for i := range events {
		event := &events[i]
		if event.Fd == 0 {
			l.runCommands()
			continue
		}
		s := l.session(event)
		switch {
		case s == nil:
		case s.movesBulk():
			bulk = append(bulk, uint8(i))
		default:
			others = true
			s.ready(sideOf(event), event.Events)
		}
	}
	if !others {
		l.portion = loopRead
	}
	for _, i := range bulk {
		// One that has ended in this batch may have left its slot to another.
		if s := l.session(&events[i]); s != nil {
			s.ready(sideOf(&events[i]), events[i].Events)
		}
	}
}

// session returns the one that an event belongs to, nil if it has ended. The number in an event is that of the slot, and
// which side it is.
func (l *eventLoop) session(event *unix.EpollEvent) *epollSession {
	s := l.slots[uint32(event.Fd)>>1]
	if s == nil || s.generation != uint32(event.Pad) {
		return nil
	}
	return s
}

func sideOf(event *unix.EpollEvent) uint32 { return uint32(event.Fd) & 1 }

// received counts bytes that the session has got from one of its sockets.
func (s *epollSession) received(n int) {
	if s.run += n; n < smallRead {
		s.run = 0
	}
}

// movesBulk reports whether the session moves bulk, as far as is known.
func (s *epollSession) movesBulk() bool { return s.run >= bulkRun }
