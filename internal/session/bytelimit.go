package session

import (
	"errors"
	"net"

	"pgmtls-proxy/internal/refusal"
)

// What a client may send before its session begins, in bytes. crypto/tls itself takes a ClientHello of 64 KiB and 256 KiB of
// certificates, and keeps several times as much while a handshake waits for its client: of lists of short items in
// a ClientHello up to twelve times.
const (
	// maxHandshake bounds the client's side of a handshake, which is mostly its certificates. Real chains have 1 to 5 KiB.
	maxHandshake         = 64 << 10
	maxUnlistedHandshake = 16 << 10 // of an address that no rule allows
	// maxHello bounds what comes before the server's first flight. A real ClientHello has 0.3 to 2 KiB.
	maxHello = 8 << 10
	// maxBehindHandshake is for the startup packet, at most 10 KiB, in records that may have 16 KiB each.
	maxBehindHandshake = 32 << 10
	// firstFlight is more bytes than a HelloRetryRequest has (about 100), behind which the client sends its hello again, and
	// fewer than a flight with the server's certificate, behind which it doesn't.
	firstFlight = 300
)

// limitedConn is a client's connection while it is no session yet. It ends with a refusal when the client sends more than it may.
type limitedConn struct {
	net.Conn
	left  int // bytes that may still come
	hello int // of these before the server's first flight
	sent  int // bytes to the client
}

func newLimitedConn(conn net.Conn, unlisted bool) *limitedConn {
	l := &limitedConn{Conn: conn, left: maxHandshake, hello: maxHello}
	if unlisted {
		l.left = maxUnlistedHandshake
	}
	return l
}

// handshaken records that the handshake is over: what comes now is the startup packet.
func (l *limitedConn) handshaken() { l.left = maxBehindHandshake }

func (l *limitedConn) Read(p []byte) (int, error) {
	left := l.left
	if l.sent < firstFlight {
		left = min(left, l.hello)
	}
	if left <= 0 && len(p) > 0 {
		return 0, &refusal.Refusal{
			Reason:  refusal.ProtocolViolation,
			Message: "too many bytes before the startup packet",
			Cause:   errors.New("the client sent more than the handshake and the startup packet may have"),
		}
	}
	n, err := l.Conn.Read(p[:min(len(p), left)])
	l.left -= n
	l.hello -= n
	return n, err
}

func (l *limitedConn) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	l.sent += n
	return n, err
}
