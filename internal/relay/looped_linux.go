package relay

import (
	"errors"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// looped is a session on a loop. Everything but loop belongs to the loop's goroutine.
type looped struct {
	link Link
	done func(Result)
	loop atomic.Pointer[loop]

	slot       uint32
	generation uint32
	active     uint32 // the last window in which it had an event

	client, server half
	phase          phase
	end            End
	err            error
	forward        bool // the server takes what the client sends
	halfClosed     bool // the client sends no more
	serverEnded    bool // by itself
	stop           *stop
	timer          *time.Timer
	alarms         uint32 // the timers so far: an old one that fires late is ignored
}

// half is one socket of a session.
type half struct {
	fd      int
	watched uint32  // events that epoll is asked for; 0: it is not in epoll
	pending *[]byte // what the socket did not take, nil if nothing
	sent    int     // bytes of pending that it has taken since
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

// maxPending bounds what is kept for a client that does not read, while it makes TLS answer (KeyUpdate).
const maxPending = 2 * sealedSize

// leftovers hold what a socket did not take.
var leftovers = sync.Pool{New: func() any { b := make([]byte, 0, sealedSize); return &b }}

// Stop is [Relay]'s.
func (s *looped) Stop(when When, message []byte) {
	s.loop.Load().post(s, func(s *looped) {
		s.stop = &stop{when, message}
		s.stopIfDue()
	})
}

// Abort is [Relay]'s.
func (s *looped) Abort() {
	s.loop.Load().post(s, func(s *looped) { s.lose(Aborted, nil) })
}

// half is a side's socket.
func (s *looped) half(side uint32) *half {
	if side == sideServer {
		return &s.server
	}
	return &s.client
}

// arrive begins to serve a session on its loop, for the first time or after a move. What crypto/tls has read ahead, with
// the handshake or before the move, is taken first.
func (s *looped) arrive() {
	l := s.loop.Load()
	l.admit(s)
	s.link.Transport.memory = &l.memory
	s.active = l.window.turn
	s.watch()
	if s.phase == relaying {
		s.fromClient(nil)
	}
}

// depart takes a session off its loop.
func (s *looped) depart() {
	l := s.loop.Load()
	l.watch(s, sideClient, 0)
	l.watch(s, sideServer, 0)
	l.dismiss(s)
	s.link.Transport.memory = nil
}

// do runs something of the session's. A panic ends this session and no other.
func (s *looped) do(what func(*looped)) {
	defer s.rescue()
	if s.phase != over {
		s.loop.Load().memory.reset()
		what(s)
	}
}

// ready handles an event.
func (s *looped) ready(side, events uint32) {
	defer s.rescue()
	l := s.loop.Load()
	l.memory.reset()
	s.active = l.window.turn
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

func (s *looped) rescue() {
	if value := recover(); value != nil {
		s.lose(Aborted, &Panic{value, debug.Stack()})
	}
}

// watch tells epoll what the session waits for: to read a side while the other can take it, to write what is left.
func (s *looped) watch() {
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
func (s *looped) readClient() {
	l := s.loop.Load()
	n, err := receive(s.client.fd, l.received[:])
	switch {
	case err == errAgain:
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
func (s *looped) fromClient(records []byte) {
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
	case err == errAgain:
	case err == io.EOF:
		s.halfClose()
	default:
		s.lose(ClientLost, err)
	}
	s.watch()
}

// halfClose passes the client's goodbye on. The server may finish what it is sending.
func (s *looped) halfClose() {
	s.halfClosed = true
	if s.server.pending == nil {
		unix.Shutdown(s.server.fd, unix.SHUT_WR)
	}
	s.alarm(halfOpen, func(s *looped) { s.conclude(ClientClosed, nil, nil) })
}

// readServer takes what the server has sent.
func (s *looped) readServer() {
	l := s.loop.Load()
	n, err := receive(s.server.fd, l.received[:])
	switch {
	case err == errAgain:
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
func (s *looped) fromServer(p []byte) {
	out, broken := s.link.Stream.Follow(p)
	s.toClient(out)
	switch {
	case s.phase != relaying:
		return
	case broken != nil:
		s.conclude(ServerLost, broken, nil)
		return
	case s.halfClosed:
		s.alarm(halfOpen, func(s *looped) { s.conclude(ClientClosed, nil, nil) })
	}
	s.stopIfDue()
	s.watch()
}

// serverEnds sorts how the server ended.
func (s *looped) serverEnds(err error) {
	s.serverEnded = true
	switch {
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

func (s *looped) stopIfDue() {
	if s.stop.due(s.link.Stream) {
		s.conclude(Stopped, nil, s.stop.message)
	}
}

// toClient seals plaintext and sends it.
func (s *looped) toClient(out []byte) {
	s.link.Bytes.ToClient.Add(int64(len(out)))
	for len(out) > 0 {
		n := min(len(out), maxRecord)
		if _, err := s.link.Client.Write(out[:n]); err != nil {
			s.lose(ClientLost, err)
			return
		}
		out = out[n:]
	}
	s.flush()
}

// flush sends what crypto/tls has sealed.
func (s *looped) flush() {
	m := s.link.Transport.memory
	if len(m.out) == 0 {
		return
	}
	s.send(&s.client, m.out)
	m.out = m.out[:0]
}

// send writes to a socket. What it does not take is kept, and the other side is not read until it is gone.
func (s *looped) send(h *half, p []byte) {
	if s.phase >= leaving {
		return
	}
	if h.pending == nil {
		n, err := transmit(h.fd, p)
		if err != nil {
			s.unwritable(h, err)
			return
		}
		if p = p[n:]; len(p) == 0 {
			return
		}
		h.pending, h.sent = leftovers.Get().(*[]byte), 0
	}
	*h.pending = append(*h.pending, p...)
	s.watch()
}

// unwritable is a socket that takes nothing any more.
func (s *looped) unwritable(h *half, err error) {
	h.drop()
	switch {
	case h == &s.client && s.phase == relaying:
		s.lose(ClientLost, err)
	case h == &s.client:
		s.part()
	default:
		// The server may have said why it left, which is still to be read. The client is read on: a socket that
		// is closed with unread input resets the connection and eats the message.
		s.forward = false
		s.alarm(dismissal, func(s *looped) { s.conclude(ServerLost, err, nil) })
	}
}

// drain goes on with what a socket did not take.
func (s *looped) drain(side uint32) {
	h := s.half(side)
	if h.pending == nil {
		return
	}
	n, err := transmit(h.fd, (*h.pending)[h.sent:])
	if err != nil {
		s.unwritable(h, err)
		s.watch()
		return
	}
	if h.sent += n; h.backlog() == 0 {
		h.drop()
		s.drained(side)
	}
	s.watch()
}

// drained is a socket that has taken everything.
func (s *looped) drained(side uint32) {
	switch {
	case side == sideServer && s.halfClosed && s.phase == relaying:
		unix.Shutdown(s.server.fd, unix.SHUT_WR)
	case side == sideClient && s.phase == parting:
		s.goodbye()
	case side == sideClient && s.halfClosed && s.phase == relaying:
		s.alarm(halfOpen, func(s *looped) { s.conclude(ClientClosed, nil, nil) })
	}
}

// conclude ends the relaying and says so to the client: a last message if there is one, then the end of the stream, with
// a close_notify only if it is a clean one. The client has a moment to read both.
func (s *looped) conclude(end End, err error, message []byte) {
	if s.phase != relaying {
		return
	}
	s.end, s.err = end, err
	s.toClient(message)
	if s.phase != relaying {
		return // the client is lost
	}
	s.phase = parting
	s.server.drop()
	if end != ServerLost {
		s.link.Client.CloseWrite()
		s.flush()
	}
	s.alarm(farewell, (*looped).part)
	if s.phase == parting && s.client.pending == nil {
		s.goodbye()
	}
	s.watch()
}

// goodbye ends the stream to the client, which has got everything.
func (s *looped) goodbye() {
	unix.Shutdown(s.client.fd, unix.SHUT_WR)
	if s.halfClosed {
		s.part()
	}
}

// lose ends the relaying for a client that is not to be told anything.
func (s *looped) lose(end End, err error) {
	if s.phase == relaying {
		s.end, s.err = end, err
	}
	s.part()
}

// part closes the client, and tells a server that has not ended that it is gone.
func (s *looped) part() {
	if s.phase >= leaving {
		return
	}
	l := s.loop.Load()
	l.watch(s, sideClient, 0)
	s.client.drop()
	s.phase = leaving
	unix.Close(s.client.fd)
	s.link.Transport.Conn.Close() // the listener's slot
	if s.serverEnded {
		s.finish()
		return
	}
	s.server.drop()
	unix.Shutdown(s.server.fd, unix.SHUT_WR)
	s.alarm(dismissal, (*looped).finish)
	s.watch()
}

// finish closes the server and gives the account.
func (s *looped) finish() {
	l := s.loop.Load()
	l.watch(s, sideServer, 0)
	l.dismiss(s)
	s.phase = over
	if s.timer != nil {
		s.timer.Stop()
	}
	unix.Close(s.server.fd)
	s.link.Transport.memory = nil
	go s.done(Result{End: s.end, Err: s.err, ServerOpen: !s.serverEnded})
}

// alarm does something after a while, in place of what the alarm before was to do.
func (s *looped) alarm(after time.Duration, what func(*looped)) {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.alarms++
	number := s.alarms
	s.timer = time.AfterFunc(after, func() {
		s.loop.Load().post(s, func(s *looped) {
			if s.alarms == number {
				what(s)
			}
		})
	})
}

// backlog is how many bytes wait for the socket.
func (h *half) backlog() int {
	if h.pending == nil {
		return 0
	}
	return len(*h.pending) - h.sent
}

// drop forgets what waits for the socket.
func (h *half) drop() {
	if h.pending == nil {
		return
	}
	if cap(*h.pending) <= 2*sealedSize {
		*h.pending = (*h.pending)[:0]
		leftovers.Put(h.pending)
	}
	h.pending, h.sent = nil, 0
}
