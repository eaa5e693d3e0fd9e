package connlimit

import (
	"net"
	"sync/atomic"
)

// firstFlight is more bytes than a HelloRetryRequest has (about 100), behind which the client sends its hello again, and fewer
// than a flight with the server's certificate, behind which it doesn't.
const firstFlight = 300

// Handshake is the connection of a client that has not proved who it is. It bounds what the client may send until then:
// crypto/tls itself takes a ClientHello of 64 KiB and 256 KiB of certificates, and keeps several times as much while a
// handshake waits for its client; of lists of short items in a ClientHello up to twelve times.
//
// One goroutine may read while another writes.
type Handshake struct {
	net.Conn
	left    int          // bytes that may still come
	hello   int          // of these before the server's first flight
	sent    atomic.Int64 // bytes to the client
	tooMuch func() error
}

// NewHandshake returns a connection of which a client may send at most as many bytes, and at most hello of them before the
// server has sent its first flight. The Read that would exceed either fails with the error of tooMuch.
func NewHandshake(conn net.Conn, hello, bytes int, tooMuch func() error) *Handshake {
	return &Handshake{Conn: conn, hello: hello, left: bytes, tooMuch: tooMuch}
}

// Allow lets the client send as many bytes from now on, whatever is left of those before.
func (h *Handshake) Allow(bytes int) { h.left = bytes }

// Read reads from the client what it may still send.
func (h *Handshake) Read(p []byte) (int, error) {
	left := h.left
	if h.sent.Load() < firstFlight {
		left = min(left, h.hello)
	}
	if left <= 0 && len(p) > 0 {
		return 0, h.tooMuch()
	}
	n, err := h.Conn.Read(p[:min(len(p), left)])
	h.left -= n
	h.hello -= n
	return n, err
}

// Write writes to the client.
func (h *Handshake) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	h.sent.Add(int64(n))
	return n, err
}
