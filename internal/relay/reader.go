package relay

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
)

// buffer is scratch memory. A direction has one only while bytes pass: an idle session has none.
type buffer [scratchSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// A reader waits until its side sends something and returns it in a buffer, which the caller gives back to
// the pool. Bytes may come together with an error. On an error without bytes the buffer is nil.
type reader interface {
	read() (*buffer, int, error)
}

// newServerReader reads plaintext from a server.
func newServerReader(conn net.Conn) reader {
	if _, isTLS := conn.(*tls.Conn); !isTLS {
		if socket, ok := conn.(syscall.Conn); ok {
			if raw, err := socket.SyscallConn(); err == nil {
				r := &socketReader{raw: raw}
				r.ready = r.readReady
				return r
			}
		}
	}
	return plainReader{conn}
}

// newClientReader reads plaintext from a client.
func newClientReader(conn *tls.Conn, transport *Transport) reader {
	if transport.raw == nil {
		return plainReader{conn}
	}
	return &tlsReader{conn: conn, transport: transport}
}

// socketReader takes its buffer when the socket is readable.
type socketReader struct {
	raw   syscall.RawConn
	ready func(fd uintptr) bool // readReady, bound once
	buf   *buffer
	n     int
	err   error
}

func (r *socketReader) read() (*buffer, int, error) {
	r.buf, r.n, r.err = nil, 0, nil
	if err := r.raw.Read(r.ready); err != nil {
		return nil, 0, err
	}
	return r.buf, r.n, r.err
}

func (r *socketReader) readReady(fd uintptr) bool {
	buf := buffers.Get().(*buffer)
	r.n, r.err = readSocket(fd, buf[:])
	if r.n == 0 {
		buffers.Put(buf)
		return r.err != errWouldBlock
	}
	r.buf = buf
	return true
}

// tlsReader waits with room for one byte, and then takes a buffer for it, the rest of its record, and all
// records that have already arrived behind it.
type tlsReader struct {
	conn      *tls.Conn
	transport *Transport
	first     [1]byte
}

func (r *tlsReader) read() (*buffer, int, error) {
	n, err := r.conn.Read(r.first[:])
	if n == 0 {
		return nil, 0, err
	}
	buf := buffers.Get().(*buffer)
	buf[0] = r.first[0]
	r.transport.hurry = true
	for n < len(buf) && err == nil {
		var more int
		more, err = r.conn.Read(buf[n:])
		n += more
	}
	r.transport.hurry = false
	if err == errWouldBlock {
		err = nil
	}
	return buf, n, err
}

// plainReader holds its buffer while it waits: a TLS leg to the server, and connections that are no sockets.
type plainReader struct{ conn net.Conn }

func (r plainReader) read() (*buffer, int, error) {
	buf := buffers.Get().(*buffer)
	n, err := r.conn.Read(buf[:])
	if n == 0 {
		buffers.Put(buf)
		buf = nil
	}
	return buf, n, err
}
