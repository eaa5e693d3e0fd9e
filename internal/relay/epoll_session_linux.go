package relay

import (
	"errors"
	"io"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// epollSession is a session on a loop. Everything but loop belongs to the loop's goroutine.
type epollSession struct {
	link Link
	done func(Result)
	loop atomic.Pointer[eventLoop]

	slot       uint32
	generation uint32
	active     uint32 // the last window in which it had an event
	run        int    // bytes received since the last small read

	client, server half
	phase          phase
	end            End
	err            error
	forward        bool // the server takes what the client sends
	halfClosed     bool // the client sends no more
	serverEnded    bool // by itself
	answered       bool // something has come from the server, or nobody waits for it
	arrived        bool // on its first loop
	stop           *stop
	cancelling     bool // see [Relay]
	timer          *time.Timer
	alarms         uint32 // the timers so far: an old one that fires late is ignored
}

const (
	sideClient = 0
	sideServer = 1
)

// phase is how far a session has come. It only goes on.
type phase uint8

const (
	relaying phase = iota
	parting        // the client reads the last bytes
	leaving        // the client is gone, the server is told
	over
)

// Stop is [Relay]'s.
func (s *epollSession) Stop(when When, message []byte) {
	s.loop.Load().post(s, func(s *epollSession) {
		s.stop = &stop{when, message}
		s.stopIfDue()
	})
}

// Cancelling is [Relay]'s.
func (s *epollSession) Cancelling() {
	s.loop.Load().post(s, func(s *epollSession) { s.cancelling = true })
}

// Abort is [Relay]'s.
func (s *epollSession) Abort() {
	s.loop.Load().post(s, func(s *epollSession) { s.lose(Aborted, nil) })
}

// half is a side's socket.
func (s *epollSession) half(side uint32) *half {
	if side == sideServer {
		return &s.server
	}
	return &s.client
}

// arrive begins to serve a session on its loop, for the first time or after a move. What crypto/tls has read ahead, with
// the handshake or before the move, is taken first.
func (s *epollSession) arrive() {
	l := s.loop.Load()
	l.admit(s)
	s.link.Transport.memory = &l.memory
	s.active = l.window.number
	s.watch()
	if !s.arrived {
		s.arrived = true
		s.awaitAnswer()
	}
	if s.phase == relaying {
		s.fromClient(nil)
	}
}

// awaitAnswer bounds the time to the server's first byte.
func (s *epollSession) awaitAnswer() {
	if s.link.Unanswered == nil {
		s.answered = true
		return
	}
	s.alarm(s.link.FirstByte, func(s *epollSession) { s.concludeUnanswered(nil) })
}

// concludeUnanswered tells the client that nothing came from the server.
func (s *epollSession) concludeUnanswered(err error) {
	if s.phase == relaying && !s.answered {
		s.conclude(Unanswered, unanswered(err), s.link.Unanswered())
	}
}

// depart takes a session off its loop.
func (s *epollSession) depart() {
	l := s.loop.Load()
	// Taking a descriptor of ours out of epoll can't fail, and none of its events finds the session after dismiss.
	_ = l.watch(s, sideClient, 0)
	_ = l.watch(s, sideServer, 0)
	l.dismiss(s)
	s.link.Transport.memory = nil
}

// do runs something of the session's. A panic ends this session and no other.
func (s *epollSession) do(what func(*epollSession)) {
	defer s.rescue()
	if s.phase != over {
		s.loop.Load().memory.reset()
		what(s)
	}
}

// ready handles an event.
func (s *epollSession) ready(side, events uint32) {
	defer s.rescue()
	l := s.loop.Load()
	l.memory.reset()
	s.active = l.window.number
	// An error or a hang-up, which epoll tells also those who did not ask, is what the next write or read says.
	if events&^unix.EPOLLIN != 0 {
		s.drain(side)
	}
	switch {
	case s.phase == over || s.half(side).watched&unix.EPOLLIN == 0 || events&^unix.EPOLLOUT == 0:
	case side == sideServer:
		s.readServer()
	default:
		s.readClient()
	}
}

func (s *epollSession) rescue() {
	if value := recover(); value != nil {
		s.lose(Aborted, &Panic{value, debug.Stack()})
	}
}

// watch tells epoll what the session waits for: to read a side while the other can take it, to write what is left.
func (s *epollSession) watch() {
	if s.phase == over {
		return
	}
	var client, server uint32
	switch s.phase {
	case relaying:
		if !s.halfClosed && s.server.pending == nil && s.client.backlog() < maxPending {
			client |= unix.EPOLLIN
		}
		if s.client.pending == nil {
			server |= unix.EPOLLIN
		}
	case parting:
		if !s.halfClosed {
			client |= unix.EPOLLIN
		}
	case leaving:
		server |= unix.EPOLLIN
	}
	if s.client.pending != nil && s.phase < leaving {
		client |= unix.EPOLLOUT
	}
	if s.server.pending != nil && s.phase == relaying {
		server |= unix.EPOLLOUT
	}
	l := s.loop.Load()
	if err := errors.Join(l.watch(s, sideClient, client), l.watch(s, sideServer, server)); err != nil {
		s.lose(Aborted, err)
	}
}

// readClient takes what the client has sent.
func (s *epollSession) readClient() {
	l := s.loop.Load()
	n, err := receive(s.client.fd, l.received[:l.portion])
	s.received(n)
	switch {
	case err == errWouldBlock:
	case s.phase == parting:
		if err != nil {
			s.part()
		}
	case err == io.EOF:
		s.lose(ClientLost, io.EOF) // without a close_notify, which would have ended the reading
	case err != nil:
		s.lose(ClientLost, err)
	default:
		s.fromClient(l.received[:n])
	}
}

// fromClient opens records and forwards what is in them.
func (s *epollSession) fromClient(records []byte) {
	l := s.loop.Load()
	l.memory.in = records
	var n int
	var err error
	for err == nil && n < len(l.opened) {
		var more int
		more, err = s.link.Client.Read(l.opened[n:])
		n += more
	}
	if n > 0 && s.forward {
		s.link.Stream.Asked()
		s.link.Bytes.ToServer.Add(int64(n))
		s.send(&s.server, l.opened[:n])
	}
	// crypto/tls answers a KeyUpdate, and says in an alert what it did not like.
	s.flush()
	switch {
	case s.phase != relaying:
	case err == nil:
		s.fromClient(l.memory.in) // there is more than fits
		return
	case err == errWouldBlock:
	case err == io.EOF:
		s.halfClose()
	default:
		s.lose(ClientLost, err)
	}
	s.watch()
}

// halfClose passes the client's goodbye on. The server may finish what it is sending.
func (s *epollSession) halfClose() {
	s.halfClosed = true
	if s.server.pending == nil {
		unix.Shutdown(s.server.fd, unix.SHUT_WR)
	}
	s.alarm(halfOpen, func(s *epollSession) { s.conclude(ClientClosed, nil, nil) })
}

// readServer takes what the server has sent.
func (s *epollSession) readServer() {
	l := s.loop.Load()
	n, err := receive(s.server.fd, l.received[:l.portion])
	s.received(n)
	switch {
	case err == errWouldBlock:
	case s.phase == leaving:
		if err != nil {
			s.serverEnded = true
			s.finish()
		}
	case err != nil:
		s.serverEnds(err)
	default:
		s.fromServer(l.received[:n])
	}
}

// fromServer follows and forwards the server's messages.
func (s *epollSession) fromServer(p []byte) {
	if !s.answered {
		s.answered = true
		if !s.halfClosed && s.forward { // the alarm is for something else then
			s.disarm()
		}
	}
	var out []byte
	var broken error
	cancelled := false
	if s.cancelling && s.stop != nil {
		out, cancelled, broken = s.link.Stream.FollowCancelled(p)
	} else {
		out, broken = s.link.Stream.Follow(p)
	}
	s.toClient(out)
	switch {
	case s.phase != relaying:
		return
	case cancelled:
		s.conclude(Stopped, nil, s.stop.message)
		return
	case broken != nil:
		s.conclude(ServerLost, broken, nil)
		return
	case s.halfClosed:
		s.alarm(halfOpen, func(s *epollSession) { s.conclude(ClientClosed, nil, nil) })
	}
	s.stopIfDue()
	s.watch()
}

// serverEnds sorts how the server ended.
func (s *epollSession) serverEnds(err error) {
	s.serverEnded = true
	switch {
	case !s.answered && !s.halfClosed:
		s.concludeUnanswered(err)
	case err != io.EOF:
		s.conclude(ServerLost, err, nil)
	case !s.link.Stream.AtBoundary():
		s.toClient(s.link.Stream.Rest())
		s.conclude(ServerLost, errTruncated, nil)
	case s.halfClosed:
		s.conclude(ClientClosed, nil, nil)
	default:
		s.conclude(ServerClosed, nil, nil)
	}
}

func (s *epollSession) stopIfDue() {
	if s.stop.due(s.link.Stream) {
		s.conclude(Stopped, nil, s.stop.message)
	}
}
