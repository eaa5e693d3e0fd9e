package pgwire

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgproto3"
)

// ServerStream follows the messages that a server sends through the bytes that a relay forwards. It knows
// where a message ends, which is the only place where the proxy may put in a message of its own, and the
// transaction status of the last ReadyForQuery.
//
// Until the first ReadyForQuery it looks into two messages: BackendKeyData for the cancel key, and
// ErrorResponse, to which a hint may be added. From then on it reads headers only: no copy, no allocation.
//
// One goroutine calls Follow, Rest, AtBoundary and Ready. Status and Asked may be called from any.
type ServerStream struct {
	// OnKey gets the session's cancel key before the client does. It may be nil.
	OnKey func(Key)
	// Explain may change an ErrorResponse that ends the login, and reports whether it did. It may be nil.
	Explain func(*pgproto3.ErrorResponse) bool

	relaying bool   // the login is over
	unframed bool   // an error from before protocol 3: text up to the end of the stream
	partial  []byte // login: the begin of a message that has not come whole

	header     [5]byte
	have       int    // bytes of header, when it came in parts
	body       uint32 // bytes of the message that are still to come
	wantStatus bool   // the next byte is ReadyForQuery's
	held       []byte // an ErrorResponse that has not come whole; see FollowCancelled

	status atomic.Uint32
	ready  atomic.Bool // ReadyForQuery has come, and the client has sent nothing since
}

// maxLogin bounds what is kept of a message during the login. Longer messages are only hopped.
const maxLogin = 16 << 10

// minLength and maxLength bound a message's length word, which counts itself. The server's limit is
// PQ_LARGE_MESSAGE_LIMIT (libpq.h), the largest int32 less one.
const (
	minLength = 4
	maxLength = 1<<31 - 1
)

// Status is the transaction status of the last ReadyForQuery: 'I' idle, 'T' in a transaction, 'E' in a failed
// one, and 0 before the first.
func (s *ServerStream) Status() byte { return byte(s.status.Load()) }

// AtBoundary reports whether the bytes so far end with a whole message.
func (s *ServerStream) AtBoundary() bool {
	return s.have == 0 && s.body == 0 && len(s.partial) == 0 && len(s.held) == 0
}

// Asked says that the client has sent something. It may be called from any goroutine.
func (s *ServerStream) Asked() { s.ready.Store(false) }

// Idle is Ready for any goroutine, and less exact: it may be true inside of a message that nobody has asked for.
func (s *ServerStream) Idle() bool { return s.ready.Load() }

// Ready reports whether the server waits for the client: its last ReadyForQuery came after the last Asked, and no part
// of a message has come since. A client that sends a second query before the first is answered makes it true early.
func (s *ServerStream) Ready() bool { return s.ready.Load() && s.AtBoundary() }

// Follow takes the next bytes of the server and returns those to forward now: p itself, or during the login
// a slice of its own. An error means that the server does not speak the protocol.
func (s *ServerStream) Follow(p []byte) ([]byte, error) {
	if s.relaying {
		return p, s.hop(p)
	}
	return s.login(p)
}

// Rest returns what is held back when the server has ended in the middle of a message.
func (s *ServerStream) Rest() []byte { return append(s.partial, s.held...) }

// login passes whole messages on, up to the first ReadyForQuery.
func (s *ServerStream) login(p []byte) ([]byte, error) {
	pending := append(s.partial, p...)
	s.partial = nil
	var out []byte
	for len(pending) >= len(s.header) {
		kind, length := pending[0], binary.BigEndian.Uint32(pending[1:])
		if kind == 'E' && (length < 8 || length > 30000) {
			// "Ecould not fork new process": a postmaster in need sends no length. libpq draws the line here too.
			s.relaying, s.unframed = true, true
			return append(out, pending...), nil
		}
		if length < minLength || length > maxLength {
			return out, badLength(kind, length)
		}
		if length > maxLogin || kind == 'Z' {
			s.relaying = true
			return append(out, pending...), s.hop(pending)
		}
		if len(pending) < int(length)+1 {
			break
		}
		out = s.passLogin(out, pending[:length+1])
		pending = pending[length+1:]
	}
	s.partial = pending
	return out, nil
}

// passLogin appends one whole message to out.
func (s *ServerStream) passLogin(out, message []byte) []byte {
	body := message[len(s.header):]
	switch message[0] {
	case 'K':
		if len(body) >= 8 && s.OnKey != nil {
			s.OnKey(Key{PID: binary.BigEndian.Uint32(body), Secret: append([]byte(nil), body[4:]...)})
		}
	case 'E':
		var e pgproto3.ErrorResponse
		if s.Explain != nil && e.Decode(body) == nil && s.Explain(&e) {
			if longer, err := e.Encode(out); err == nil {
				return longer
			}
		}
	}
	return append(out, message...)
}

// hop moves over the headers in p.
func (s *ServerStream) hop(p []byte) error {
	if s.unframed {
		return nil
	}
	for len(p) > 0 {
		if s.body > 0 {
			if s.wantStatus {
				s.wantStatus = false
				s.setStatus(p[0])
			}
			if uint64(len(p)) < uint64(s.body) {
				s.body -= uint32(len(p))
				return nil
			}
			p = p[s.body:]
			s.body = 0
			continue
		}
		header := p
		if s.have > 0 || len(p) < len(s.header) {
			n := copy(s.header[s.have:], p)
			s.have += n
			p = p[n:]
			if s.have < len(s.header) {
				return nil
			}
			s.have = 0
			header = s.header[:]
		} else {
			p = p[len(s.header):]
		}
		length := binary.BigEndian.Uint32(header[1:])
		if length < minLength || length > maxLength {
			return badLength(header[0], length)
		}
		s.body = length - minLength
		if header[0] == 'Z' {
			s.wantStatus = s.body > 0
			s.ready.Store(true)
		}
	}
	return nil
}

// setStatus stores only changes: the line stays shared between cores that look at it.
func (s *ServerStream) setStatus(status byte) {
	if s.status.Load() != uint32(status) {
		s.status.Store(uint32(status))
	}
}

func badLength(kind byte, length uint32) error {
	return fmt.Errorf("server message %q announces a length of %d bytes", kind, length)
}
