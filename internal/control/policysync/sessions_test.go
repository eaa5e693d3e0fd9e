package policysync

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// startDatabase is a PostgreSQL that lets everybody in and never answers a query. It gives its address.
func startDatabase(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { serveDatabase(conn) })
		}
	})
	t.Cleanup(sessions.Wait)
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// serveDatabase ends with the connection, which the proxy closes.
func serveDatabase(conn net.Conn) {
	defer conn.Close()
	startup, err := readSized(conn, 0)
	if err != nil || len(startup) < 4 || binary.BigEndian.Uint32(startup) != 3<<16 {
		return // a cancel request
	}
	// AuthenticationOk, BackendKeyData, ReadyForQuery.
	_, err = conn.Write([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00" + "K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02" + "Z\x00\x00\x00\x05I"))
	if err == nil {
		_, _ = io.Copy(io.Discard, conn) // until the proxy closes it
	}
}

// readSized reads a message: a type of so many bytes, and what its length says.
func readSized(from io.Reader, kind int) ([]byte, error) {
	head := make([]byte, kind+4)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head[kind:])) - 4
	if size < 0 || size > 1<<16 {
		return nil, errors.New("no PostgreSQL message")
	}
	body := make([]byte, size)
	_, err := io.ReadFull(from, body)
	return append(head[:kind], body...), err
}

// visitor is a session through the proxy.
type visitor struct{ conn net.Conn }

// visit connects to the proxy with a certificate and waits until the session is ready for a query.
func visit(t *testing.T, p *proxy, s *policytest.Space, certificate *testpki.Pair) *visitor {
	t.Helper()
	raw, err := net.Dial("tcp", p.Listen)
	must.OK(t, err)
	t.Cleanup(func() { raw.Close() })
	_, err = raw.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}) // SSLRequest
	must.OK(t, err)
	answer := make([]byte, 1)
	_, err = io.ReadFull(raw, answer)
	must.OK(t, err)
	conn := tls.Client(raw, &tls.Config{RootCAs: s.CA.Pool(), ServerName: "db.example.com", Certificates: []tls.Certificate{certificate.TLS()}})
	parameters := "\x00\x03\x00\x00user\x00app\x00database\x00app\x00\x00"
	_, err = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(4+len(parameters))), parameters...))
	must.OK(t, err)
	for {
		message, err := readSized(conn, 1)
		must.OK(t, err)
		switch message[0] {
		case 'Z':
			return &visitor{conn}
		case 'E':
			t.Fatalf("refused: %q", message)
		}
	}
}

// query sends a query that is never answered.
func (v *visitor) query(t *testing.T) {
	t.Helper()
	_, err := v.conn.Write([]byte("Q\x00\x00\x00\x0dSELECT 1\x00"))
	must.OK(t, err)
}

// goodbye waits until the proxy has ended the session.
func (v *visitor) goodbye() {
	_, _ = io.Copy(io.Discard, v.conn) // its error is the end
}
