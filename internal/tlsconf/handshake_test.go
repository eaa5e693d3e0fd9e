package tlsconf

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// handshaken is what both sides saw of a handshake over a real socket.
type handshaken struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

func (h handshaken) failed() bool { return h.clientErr != nil || h.serverErr != nil }

// handshake runs one. The server sends a byte after it, since in TLS 1.3 the client's side ends before the server has
// seen the client's certificate.
func handshake(t *testing.T, server, client *tls.Config) handshaken {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	deadline := time.Now().Add(20 * time.Second)
	var result handshaken
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := listener.Accept()
		if err != nil {
			result.serverErr = err
			return
		}
		defer raw.Close()
		raw.SetDeadline(deadline)
		conn := tls.Server(raw, server)
		if result.serverErr = conn.Handshake(); result.serverErr == nil {
			_, result.serverErr = conn.Write([]byte("x"))
		}
		result.server = conn.ConnectionState()
		conn.Close()
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(deadline)
	conn := tls.Client(raw, client)
	if result.clientErr = conn.Handshake(); result.clientErr == nil {
		_, result.clientErr = io.ReadFull(conn, make([]byte, 1))
	}
	result.client = conn.ConnectionState()
	raw.Close()
	<-done
	return result
}
