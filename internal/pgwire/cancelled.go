package pgwire

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgproto3"
)

// queryCanceled is the SQLSTATE of the error that ends a cancelled statement.
const queryCanceled = "57014"

// maxHeld bounds an ErrorResponse that is held back until its SQLSTATE is known, in bytes. That of a cancelled statement has
// some hundred; a longer one is another.
const maxHeld = 16 << 10

// FollowCancelled is [ServerStream.Follow] for a session whose statement the proxy has cancelled in order to end it. It holds
// each ErrorResponse back until it is whole. At the one of a cancelled statement it stops and reports cancelled: out is what
// stands before it, and ends with a whole message, so that a message of the proxy's can take its place. What follows that
// error is not followed any more.
//
// It allocates, and is not for sessions that go on.
func (s *ServerStream) FollowCancelled(p []byte) (out []byte, cancelled bool, err error) {
	if !s.relaying || s.unframed {
		out, err = s.Follow(p)
		return out, false, err
	}
	all := append(s.held, p...)
	s.held = nil
	passed := 0
	for passed < len(all) {
		rest := all[passed:]
		n := s.step(rest)
		if n == 0 { // an ErrorResponse begins
			size := 1 + int(binary.BigEndian.Uint32(rest[1:]))
			switch {
			case len(rest) < size:
				s.held = append([]byte(nil), rest...)
				return all[:passed], false, nil
			case isQueryCanceled(rest[len(s.header):size]):
				return all[:passed], true, nil
			}
			n = size
		}
		if n < 0 { // its header does
			s.held = append([]byte(nil), rest...)
			return all[:passed], false, nil
		}
		passed += n
		if err := s.hop(rest[:n]); err != nil {
			return all[:passed], false, err
		}
	}
	return all, false, nil
}

// step returns how many bytes can pass without a look at them: 0 at the header of an ErrorResponse that may be held back, and -1
// if that header is not whole.
func (s *ServerStream) step(rest []byte) int {
	switch {
	case s.body > 0:
		return int(min(uint64(s.body), uint64(len(rest))))
	case s.have > 0:
		return 1
	case rest[0] != 'E':
		return min(len(s.header), len(rest))
	case len(rest) < len(s.header):
		return -1
	}
	if length := binary.BigEndian.Uint32(rest[1:]); length < minLength || length > maxHeld {
		return len(s.header)
	}
	return 0
}

func isQueryCanceled(body []byte) bool {
	var e pgproto3.ErrorResponse
	return e.Decode(body) == nil && e.Code == queryCanceled
}
