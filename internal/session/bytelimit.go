package session

import (
	"errors"
	"net"

	"pgmtls-proxy/internal/connlimit"
	"pgmtls-proxy/internal/refusal"
)

// What a client may send before its session begins, in bytes: see [connlimit.Handshake].
const (
	// maxHandshake bounds the client's side of a handshake, which is mostly its certificates. Real chains have 1 to 5 KiB.
	maxHandshake         = 64 << 10
	maxUnlistedHandshake = 16 << 10 // of an address that no rule allows
	// maxHello bounds what comes before the server's first flight. A real ClientHello has 0.3 to 2 KiB.
	maxHello = 8 << 10
	// maxBehindHandshake is for the startup packet, at most 10 KiB, in records that may have 16 KiB each.
	maxBehindHandshake = 32 << 10
)

// newLimitedConn bounds what a client sends while it has no session yet. The connection ends with a refusal beyond that.
func newLimitedConn(conn net.Conn, unlisted bool) *connlimit.Handshake {
	bytes := maxHandshake
	if unlisted {
		bytes = maxUnlistedHandshake
	}
	return connlimit.NewHandshake(conn, maxHello, bytes, tooManyBytes)
}

func tooManyBytes() error {
	return &refusal.Refusal{
		Reason:  refusal.ProtocolViolation,
		Message: "too many bytes before the startup packet",
		Cause:   errors.New("the client sent more than the handshake and the startup packet may have"),
	}
}
