package relay

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/testkit/testpki"
)

// link is a running relay with a hand on both ends.
type link struct {
	t      testing.TB
	client *tls.Conn  // the client's end
	below  *Transport // what it stands on, which sees the end of the bytes
	socket *net.TCPConn
	server *net.UnixConn
	relay  Relay
	bytes  Bytes
	ended  chan Result
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// start relays between a TLS client over TCP and a server on a unix socket.
func start(t testing.TB, engine Engine, version uint16) *link {
	return startStream(t, engine, version, &pgwire.ServerStream{})
}

func startStream(t testing.TB, engine Engine, version uint16, stream *pgwire.ServerStream) *link {
	return startWith(t, engine, stream, &tls.Config{MaxVersion: version})
}

// startLogged relays in TLS 1.3 and writes the client's secrets.
func startLogged(t testing.TB, engine Engine, keys io.Writer) *link {
	return startWith(t, engine, &pgwire.ServerStream{}, &tls.Config{MinVersion: tls.VersionTLS13, KeyLogWriter: keys})
}

// startWith relays for a client with a configuration, which it completes.
func startWith(t testing.TB, engine Engine, stream *pgwire.ServerStream, clientConfig *tls.Config) *link {
	t.Helper()
	pki := testpki.MustCA(t, "relay test")
	serverConfig := &tls.Config{
		Certificates:                []tls.Certificate{pki.MustIssue(t, testpki.Server("relay.test")).TLS()},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
	clientConfig.RootCAs, clientConfig.ServerName, clientConfig.DynamicRecordSizingDisabled = pki.Pool(), "relay.test", true

	clientEnd, proxyEnd := tcpPair(t)
	transport := NewTransport(proxyEnd, nil)
	proxyTLS := tls.Server(transport, serverConfig)
	l := &link{t: t, below: NewTransport(clientEnd, nil), socket: clientEnd, ended: make(chan Result, 1)}
	l.client = tls.Client(l.below, clientConfig)
	handshaken := make(chan error, 1)
	go func() { handshaken <- proxyTLS.Handshake() }()
	if err := l.client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-handshaken; err != nil {
		t.Fatal(err)
	}
	var relayEnd *net.UnixConn
	l.server, relayEnd = unixPair(t)
	l.relay = engine.Start(Link{Client: proxyTLS, Transport: transport, Server: relayEnd, Stream: stream, Bytes: &l.bytes},
		func(r Result) { l.ended <- r })
	t.Cleanup(func() {
		l.socket.Close()
		l.server.Close()
		l.relay.Abort()
	})
	l.socket.SetDeadline(time.Now().Add(patience))
	l.server.SetDeadline(time.Now().Add(patience))
	return l
}

// each runs a test with both engines and both versions of TLS.
func each(t *testing.T, test func(t *testing.T, l *link)) {
	eachEngine(t, func(t *testing.T, engine Engine) {
		for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, start(t, engine, version))
			})
		}
	})
}

func eachEngine(t *testing.T, test func(t *testing.T, engine Engine)) {
	for name, engine := range map[string]Engine{"pair": Goroutines{}, "loop": NewEngine()} {
		t.Run(name, func(t *testing.T) { test(t, engine) })
	}
}

// result waits for the end of the relay.
func (l *link) result() Result {
	l.t.Helper()
	select {
	case r := <-l.ended:
		return r
	case <-time.After(patience):
		l.t.Fatal("the relay did not end")
		return Result{}
	}
}

// want reads exactly what is expected.
func (l *link) want(from io.Reader, expected []byte) {
	l.t.Helper()
	got := make([]byte, len(expected))
	n, err := io.ReadFull(from, got)
	if err != nil || string(got) != string(expected) {
		l.t.Fatalf("got %d bytes %.40q, %v; want %d bytes %.40q", n, got[:n], err, len(expected), expected)
	}
}

// wantEnd expects the end of the stream, which is clean if it came with a close_notify.
func (l *link) wantEnd(clean bool) {
	l.t.Helper()
	_, err := l.client.Read(make([]byte, 1))
	if err != io.EOF || l.below.Ended() == clean {
		l.t.Errorf("the client reads %v, end without close_notify: %v", err, l.below.Ended())
	}
}

func send(t testing.TB, to io.Writer, p []byte) {
	t.Helper()
	if _, err := to.Write(p); err != nil {
		t.Fatal(err)
	}
}

// message is one of the server's.
func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...)
}

// ready is the server's ReadyForQuery.
func ready() []byte { return message('Z', "I") }

func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

func unixPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return accepted.(*net.UnixConn), dialled.(*net.UnixConn)
}
