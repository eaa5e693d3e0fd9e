package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"pgmtls-proxy/internal/pgwire"
)

// postgres is the database that a test plays. It records everything that reaches it.
type postgres struct {
	t testing.TB

	// Set before the first connection.
	refuse func(ctx context.Context) error // the dial's error
	play   func(conn net.Conn)             // a server's part; nil is serveLogin
	cancel func() error                    // what becomes of a cancel

	mu       sync.Mutex
	dials    int
	received bytes.Buffer // of all connections
	cancels  [][]byte
}

// The cancel key of the sessions that serveLogin serves, and what their login gets.
var (
	theKey      = pgwire.Key{PID: 4711, Secret: []byte("\x01\xfeKe")}
	loginAnswer = loginWithKey(theKey)
)

func loginWithKey(key pgwire.Key) string {
	k := append(binary.BigEndian.AppendUint32(nil, key.PID), key.Secret...)
	return message('R', "\x00\x00\x00\x00") + message('K', string(k)) + message('Z', "I")
}

// message is one of PostgreSQL's.
func message(kind byte, body string) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...))
}

func (p *postgres) Dial(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	p.dials++
	p.mu.Unlock()
	if p.refuse != nil {
		if err := p.refuse(ctx); err != nil {
			return nil, err
		}
	}
	near, far := newWire(netip.MustParseAddr("192.0.2.1"))
	play := p.play
	if play == nil {
		play = serveLogin
	}
	go func() {
		defer far.Close()
		play(&recorded{far, p})
	}()
	return near, nil
}

func (p *postgres) Cancel(_ context.Context, packet []byte) error {
	p.mu.Lock()
	p.cancels = append(p.cancels, bytes.Clone(packet))
	p.mu.Unlock()
	if p.cancel != nil {
		return p.cancel()
	}
	return nil
}

// recorded is a server's end whose input is kept.
type recorded struct {
	*wire
	p *postgres
}

func (r *recorded) Read(b []byte) (int, error) {
	n, err := r.wire.Read(b)
	r.p.mu.Lock()
	r.p.received.Write(b[:n])
	r.p.mu.Unlock()
	return n, err
}

// untouched expects that nobody was dialled and nothing arrived.
func (p *postgres) untouched() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dials > 0 || p.received.Len() > 0 || len(p.cancels) > 0 {
		p.t.Errorf("the database has seen %d dials, %d cancels and the bytes %q; want none", p.dials, len(p.cancels), p.received.Bytes())
	}
}

// heard is what has reached the server so far.
func (p *postgres) heard() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.received.Bytes())
}

// cancelled are the cancel requests so far.
func (p *postgres) cancelled() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cancels
}

// serveLogin lets everybody in without a password and answers each query by CommandComplete.
func serveLogin(conn net.Conn) { serveWithKey(conn, theKey) }

func serveWithKey(conn net.Conn, key pgwire.Key) {
	if _, err := readPacket(conn, 0); err != nil {
		return
	}
	io.WriteString(conn, loginWithKey(key))
	for {
		packet, err := readPacket(conn, 1)
		if err != nil || packet[0] == 'X' {
			return
		}
		io.WriteString(conn, queryAnswer)
	}
}

// query asks what queryAnswer answers.
var (
	query       = []byte(message('Q', "select 1\x00"))
	queryAnswer = message('C', "SELECT 1\x00") + message('Z', "I")
)

// readPacket reads a packet whose length word follows so many bytes.
func readPacket(r io.Reader, before int) ([]byte, error) {
	packet := make([]byte, before+4)
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, err
	}
	body := make([]byte, max(int(binary.BigEndian.Uint32(packet[before:]))-4, 0))
	_, err := io.ReadFull(r, body)
	return append(packet, body...), err
}
