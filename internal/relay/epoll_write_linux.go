package relay

import (
	"sync"

	"golang.org/x/sys/unix"
)

// half is one socket of a session.
type half struct {
	fd      int
	watched uint32  // events that epoll is asked for; 0: it is not in epoll
	pending *[]byte // what the socket did not take, nil if nothing
	sent    int     // bytes of pending that it has taken since
}

// maxPending bounds what is kept for a client that does not read, while it makes TLS answer (KeyUpdate).
const maxPending = 2 * sealedSize

// leftovers hold what a socket did not take.
var leftovers = sync.Pool{New: func() any { b := make([]byte, 0, sealedSize); return &b }}

// toClient seals plaintext and sends it.
func (s *epollSession) toClient(out []byte) {
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
func (s *epollSession) flush() {
	m := s.link.Transport.memory
	if len(m.out) == 0 {
		return
	}
	s.send(&s.client, m.out)
	m.out = m.out[:0]
}

// send writes to a socket. What it does not take is kept, and the other side is not read until it is gone.
func (s *epollSession) send(h *half, p []byte) {
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
func (s *epollSession) unwritable(h *half, err error) {
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
		s.alarm(dismissal, func(s *epollSession) { s.conclude(ServerLost, err, nil) })
	}
}

// drain goes on with what a socket did not take.
func (s *epollSession) drain(side uint32) {
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
func (s *epollSession) drained(side uint32) {
	switch {
	case side == sideServer && s.halfClosed && s.phase == relaying:
		unix.Shutdown(s.server.fd, unix.SHUT_WR)
	case side == sideClient && s.phase == parting:
		s.goodbye()
	case side == sideClient && s.halfClosed && s.phase == relaying:
		s.alarm(halfOpen, func(s *epollSession) { s.conclude(ClientClosed, nil, nil) })
	}
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
