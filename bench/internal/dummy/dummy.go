// Package dummy is a PostgreSQL that takes no time: it speaks just enough of the protocol for a proxy to be measured alone.
//
// Everyone may come in. A query that starts with [Down] is answered by rows without end, one that starts with [Up] takes rows
// until they end, every other gives the one row that pgbench's select would. Nothing is parsed, stored or checked beyond
// that. It is not a fake for tests of the proxy: those talk to a real PostgreSQL.
package dummy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"pgmtls-proxy/internal/pgwire"
)

// The beginnings of the two bulk statements. They are good SQL, so that a real PostgreSQL can be asked the same.
const (
	Down = "copy bulk to stdout"
	Up   = "copy sink from stdin"
)

// SocketName is the name of the socket in its directory, as libpq and PgBouncer look for it.
const SocketName = ".s.PGSQL.5432"

// Listen opens the socket in the directory, for everyone.
func Listen(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketName)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(path, 0o777)
}

// Serve answers everyone until the listener is closed.
func Serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			// A session ends by an error, mostly that the proxy has closed the connection.
			_ = serve(conn)
		}()
	}
}

// Buffers are small until rows come, so that thousands of idle sessions need little.
const (
	smallBuffer = 512
	bulkBuffer  = 64 << 10
)

// session is one connection behind its startup packet.
type session struct {
	conn net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
}

func serve(conn net.Conn) error {
	if err := greet(conn); err != nil {
		return err
	}
	s := &session{conn: conn, in: bufio.NewReaderSize(conn, smallBuffer), out: bufio.NewWriterSize(conn, smallBuffer)}
	for {
		kind, size, err := s.header()
		if err != nil || kind == 'X' {
			return err
		}
		if err := s.answer(kind, size); err != nil {
			return err
		}
	}
}

// greet reads the startup packet and lets the client in.
func greet(conn net.Conn) error {
	var head [8]byte
	for {
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		size, code := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:])
		switch {
		case code == pgwire.SSLRequestCode || code == pgwire.GSSENCRequestCode:
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return err
			}
		case code>>16 == 3 && size >= 8 && size <= 10_000:
			if _, err := io.CopyN(io.Discard, conn, int64(size)-8); err != nil {
				return err
			}
			_, err := conn.Write(welcome)
			return err
		default:
			return fmt.Errorf("no startup packet: length %d, code %d", size, code)
		}
	}
}

// header reads the type of the next message and the size of what follows.
func (s *session) header() (kind byte, size int, err error) {
	head, err := s.in.Peek(5)
	if err != nil {
		return 0, 0, err
	}
	kind, size = head[0], int(binary.BigEndian.Uint32(head[1:]))-4
	if size < 0 {
		return 0, 0, fmt.Errorf("message %q has a negative size", kind)
	}
	_, err = s.in.Discard(5)
	return kind, size, err
}

// answer takes one message. Answers are sent when the client waits for them.
func (s *session) answer(kind byte, size int) error {
	if kind == 'Q' {
		return s.query(size)
	}
	if _, err := s.in.Discard(size); err != nil {
		return err
	}
	if _, err := s.out.Write(extended[kind]); err != nil {
		return err
	}
	if kind == 'S' || kind == 'H' {
		return s.out.Flush()
	}
	return nil
}

func (s *session) query(size int) error {
	start, err := s.in.Peek(min(size, len(Up)))
	if err != nil {
		return err
	}
	up, down := bytes.HasPrefix(start, []byte(Up)), bytes.HasPrefix(start, []byte(Down))
	if _, err := s.in.Discard(size); err != nil {
		return err
	}
	switch {
	case down:
		return s.stream()
	case up:
		return s.sink()
	}
	if _, err := s.out.Write(oneRow); err != nil {
		return err
	}
	return s.out.Flush()
}

// stream sends rows until the connection ends.
func (s *session) stream() error {
	if _, err := s.conn.Write(copyOut); err != nil {
		return err
	}
	for {
		if _, err := s.conn.Write(Rows); err != nil {
			return err
		}
	}
}

// sink takes rows until the client says that these were all.
func (s *session) sink() error {
	if _, err := s.conn.Write(copyIn); err != nil {
		return err
	}
	s.in = bufio.NewReaderSize(s.in, bulkBuffer)
	for {
		kind, size, err := s.header()
		if err != nil {
			return err
		}
		if _, err := s.in.Discard(size); err != nil {
			return err
		}
		if kind == 'c' || kind == 'f' {
			_, err := s.conn.Write(copied)
			return err
		}
	}
}
