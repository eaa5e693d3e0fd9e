package session

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/testkit/testpki"
)

// client is a client's end of a connection that the proxy serves.
type client struct {
	t     testing.TB
	wire  *wire
	proxy *wire         // the other end
	tls   *tls.Conn     // nil before the handshake
	over  chan struct{} // closed when Serve has returned
	since time.Time
	work  sync.WaitGroup // what the client does meanwhile
}

// connect lets the proxy serve a client from the address.
func (w *world) connect(from netip.Addr) *client {
	near, far := newWire(from)
	c := &client{t: w.t, wire: near, proxy: far, over: make(chan struct{}), since: time.Now()}
	go func() {
		defer close(c.over)
		w.sessions.Serve(context.Background(), far)
	}()
	return c
}

// served waits until Serve has returned, and gives the time since the connect.
func (c *client) served() time.Duration {
	<-c.over
	return time.Since(c.since)
}

// request is an 8-byte packet: SSLRequest or GSSENCRequest.
func request(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
}

// startupPacket has protocol 3.0 and pairs of names and values.
func startupPacket(parameters ...string) []byte {
	body := binary.BigEndian.AppendUint32(nil, 3<<16)
	for _, text := range parameters {
		body = append(append(body, text...), 0)
	}
	body = append(body, 0)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

func cancelPacket(pid uint32, secret string) []byte {
	return pgwire.CancelPacket(pgwire.Key{PID: pid, Secret: []byte(secret)})
}

// send writes, in TLS if that is up.
func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.stream().Write(p); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) stream() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return c.wire
}

// want reads exactly what is expected.
func (c *client) want(expected string) {
	c.t.Helper()
	got := make([]byte, len(expected))
	if n, err := io.ReadFull(c.stream(), got); err != nil || string(got) != expected {
		c.t.Fatalf("the client reads %q, %v; want %q", got[:n], err, expected)
	}
}

// wantSilence expects the end of the connection without a byte.
func (c *client) wantSilence() {
	c.t.Helper()
	rest, err := io.ReadAll(c.wire)
	if len(rest) > 0 || err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		c.t.Errorf("the client reads %q, %v; want the end of the connection and nothing else", rest, err)
	}
}

// handshake asks for TLS and shakes hands.
func (c *client) handshake(certificate *testpki.Pair) {
	c.t.Helper()
	c.handshakeWith(clientTLS(certificate))
}

func (c *client) handshakeWith(config *tls.Config) {
	c.t.Helper()
	c.send(request(pgwire.SSLRequestCode))
	c.want("S")
	secured := tls.Client(c.wire, config)
	if err := secured.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.tls = secured
}

// login goes up to the first ReadyForQuery.
func (c *client) login(certificate *testpki.Pair, user string) {
	c.t.Helper()
	c.handshake(certificate)
	c.send(startupPacket("user", user))
	c.want(loginAnswer)
}

// fatal reads the one message that a refused client gets, and the end of the stream behind it.
func (c *client) fatal() pgproto3.ErrorResponse {
	c.t.Helper()
	var answer pgproto3.ErrorResponse
	text, err := io.ReadAll(c.stream())
	switch {
	case err != nil:
		c.t.Fatalf("the client reads %q, %v; want a FATAL and a clean end", text, err)
	case len(text) < 5 || text[0] != 'E' || int(binary.BigEndian.Uint32(text[1:]))+1 != len(text):
		c.t.Fatalf("the client reads %q, want one ErrorResponse", text)
	}
	if err := answer.Decode(text[5:]); err != nil {
		c.t.Fatal(err)
	}
	return answer
}

// wantFatal expects the SQLSTATE and the begin of the message, which ends with the connection's id.
func (c *client) wantFatal(sqlState, message string) pgproto3.ErrorResponse {
	c.t.Helper()
	answer := c.fatal()
	if answer.Severity != "FATAL" || answer.Code != sqlState || !strings.HasPrefix(answer.Message, message+" (connection ") {
		c.t.Errorf("the client reads %s %s %q, want FATAL %s %q", answer.Severity, answer.Code, answer.Message, sqlState, message)
	}
	return answer
}

// leave closes the client's end as a client does that has said all.
func (c *client) leave() {
	if c.tls != nil {
		c.tls.Close()
	}
	c.wire.Close()
	c.work.Wait()
}
