package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// conclude ends the relaying and says so to the client: a last message if there is one, then the end of the stream, with
// a close_notify only if it is a clean one. The client has a moment to read both.
func (s *epollSession) conclude(end End, err error, message []byte) {
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
	if end == Stopped || end == Unanswered {
		unix.Shutdown(s.server.fd, unix.SHUT_WR) // its locks are not to wait for the client
	}
	if end != ServerLost {
		s.link.Client.CloseWrite()
		s.flush()
	}
	s.alarm(end.patience(), (*epollSession).part)
	if s.phase == parting && s.client.pending == nil {
		s.goodbye()
	}
	s.watch()
}

// goodbye ends the stream to the client, which has got everything.
func (s *epollSession) goodbye() {
	unix.Shutdown(s.client.fd, unix.SHUT_WR)
	if s.halfClosed {
		s.part()
	}
}

// lose ends the relaying for a client that is not to be told anything.
func (s *epollSession) lose(end End, err error) {
	if s.phase == relaying {
		s.end, s.err = end, err
	}
	s.part()
}

// part closes the client, and tells a server that has not ended that it is gone.
func (s *epollSession) part() {
	if s.phase >= leaving {
		return
	}
	l := s.loop.Load()
	_ = l.watch(s, sideClient, 0) // see depart
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
	s.alarm(dismissal, (*epollSession).finish)
	s.watch()
}

// finish closes the server and gives the account.
func (s *epollSession) finish() {
	l := s.loop.Load()
	_ = l.watch(s, sideServer, 0) // see depart
	l.dismiss(s)
	s.phase = over
	if s.timer != nil {
		s.timer.Stop()
	}
	unix.Close(s.server.fd)
	s.link.Transport.memory = nil
	go s.done(Result{End: s.end, Err: s.err, ServerOpen: !s.serverEnded})
}

// disarm takes the alarm back.
func (s *epollSession) disarm() {
	s.alarms++
	if s.timer != nil {
		s.timer.Stop()
	}
}

// alarm does something after a while, in place of what the alarm before was to do.
func (s *epollSession) alarm(after time.Duration, what func(*epollSession)) {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.alarms++
	number := s.alarms
	s.timer = time.AfterFunc(after, func() {
		s.loop.Load().post(s, func(s *epollSession) {
			if s.alarms == number {
				what(s)
			}
		})
	})
}
