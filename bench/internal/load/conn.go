// Package load is the bench's client: it opens sessions through a proxy as libpq would, and keeps them busy in a few
// ways, for a bounded time.
//
// It counts and times what it does and knows nothing of the proxy's process: who runs it says what to read at the two ends
// of a [Window].
package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/pgwire"
)

// openTimeout bounds the opening of one session.
const openTimeout = 20 * time.Second

// Target says how to reach a database.
type Target struct {
	Network, Address string      // "tcp", "127.0.0.1:5432"
	TLS              *tls.Config // nil: no TLS
	Direct           bool        // TLS from the first byte, rather than behind an SSLRequest
	User, Database   string
}

// Conn is one session. It belongs to one goroutine, but for Close.
type Conn struct {
	net.Conn
	in *bufio.Reader
}

// Open connects and returns when the server is ready for queries. When the context ends, the connection breaks, also later.
func (t Target) Open(ctx context.Context) (*Conn, error) {
	raw, err := (&net.Dialer{Timeout: openTimeout}).DialContext(ctx, t.Network, t.Address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { raw.Close() })
	conn, err := t.greet(ctx, raw)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("open a session at %s: %w", t.Address, err)
	}
	return conn, nil
}

func (t Target) greet(ctx context.Context, raw net.Conn) (*Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(openTimeout)); err != nil {
		return nil, err
	}
	secured, err := t.secure(ctx, raw)
	if err != nil {
		return nil, err
	}
	startup, err := (&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters:      map[string]string{"user": t.User, "database": t.Database},
	}).Encode(nil)
	if err != nil {
		return nil, err
	}
	conn := newConn(secured)
	if _, err := conn.Write(startup); err != nil {
		return nil, err
	}
	if err := conn.untilReady(); err != nil {
		return nil, err
	}
	return conn, raw.SetDeadline(time.Time{})
}

func newConn(secured net.Conn) *Conn {
	// Small, since thousands may be idle; rows are read past it.
	return &Conn{Conn: secured, in: bufio.NewReaderSize(secured, 1<<10)}
}

func (t Target) secure(ctx context.Context, raw net.Conn) (net.Conn, error) {
	if t.TLS == nil {
		return raw, nil
	}
	if !t.Direct {
		request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, pgwire.SSLRequestCode)
		if _, err := raw.Write(request); err != nil {
			return nil, err
		}
		var answer [1]byte
		if _, err := io.ReadFull(raw, answer[:]); err != nil {
			return nil, err
		}
		if answer[0] != 'S' {
			return nil, fmt.Errorf("TLS was declined with %q", answer)
		}
	}
	secured := tls.Client(raw, t.TLS)
	return secured, secured.HandshakeContext(ctx)
}

// Goodbye ends the session as libpq does.
func (c *Conn) Goodbye() error {
	_, err := c.Write([]byte{'X', 0, 0, 0, 4})
	if closed := c.Close(); err == nil {
		err = closed
	}
	return err
}

// Exchange sends a request and reads its answer up to ReadyForQuery.
func (c *Conn) Exchange(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	return c.untilReady()
}

func (c *Conn) untilReady() error {
	for {
		kind, err := c.skip()
		if err != nil {
			return err
		}
		if kind == 'Z' {
			return nil
		}
	}
}

// skip reads one message and gives its type. An ErrorResponse is an error.
func (c *Conn) skip() (kind byte, err error) {
	head, err := c.in.Peek(5)
	if err != nil {
		return 0, err
	}
	kind, size := head[0], int(binary.BigEndian.Uint32(head[1:]))+1
	if kind == 'E' {
		text := make([]byte, min(size, 1<<10))
		_, err := io.ReadFull(c.in, text)
		return 0, fmt.Errorf("the server says %q (%v)", text[5:], err)
	}
	_, err = c.in.Discard(size)
	return kind, err
}

// Try opens a session, ends it, and says what TLS it had.
func (t Target) Try(ctx context.Context) (agreed string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := t.Open(ctx)
	if err != nil {
		return "", err
	}
	return conn.agreed(), conn.Goodbye()
}

// agreed says what TLS the session has; empty when it has none.
func (c *Conn) agreed() string {
	secured, ok := c.Conn.(*tls.Conn)
	if !ok {
		return ""
	}
	state := secured.ConnectionState()
	return fmt.Sprintf("%s, %s, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.CurveID)
}
