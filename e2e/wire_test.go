package e2e

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The packets that open a connection (PostgreSQL documentation, "Message Formats").
var (
	sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
	gssRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30}
)

const (
	protocol30 = 3 << 16
	protocol32 = 3<<16 | 2
)

// wire is a client that says what it is told to. After secure its reads and writes are inside TLS.
type wire struct {
	net.Conn
	socket *net.TCPConn
	proxy  *proxy
}

// dial connects to the proxy. Every read and write fails when the test has been patient enough.
func dial(t testing.TB, p *proxy) *wire { return dialFrom(t, p, "127.0.0.1") }

// dialFrom is [dial] from another address of the loopback network.
func dialFrom(t testing.TB, p *proxy, source string) *wire {
	t.Helper()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	return &wire{Conn: conn, socket: conn.(*net.TCPConn), proxy: p}
}

// clientTLS is the configuration of a good client: it verifies, offers the protocol's ALPN and has a certificate.
func clientTLS(client string) *tls.Config {
	config := &tls.Config{RootCAs: pki.privateCA.Pool(), ServerName: privateName, NextProtos: []string{"postgresql"}}
	if client != "" {
		// Not Certificates: Go sends none of those that the server's list of CAs does not fit.
		pair := pki.clients[client].TLS()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config
}

// send writes the bytes in one call.
func (w *wire) send(t testing.TB, packet []byte) {
	t.Helper()
	if _, err := w.Write(packet); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// ask sends a request and wants the one byte as its answer.
func (w *wire) ask(t testing.TB, packet []byte, answer byte) {
	t.Helper()
	w.send(t, packet)
	var got [1]byte
	if _, err := io.ReadFull(w, got[:]); err != nil {
		t.Fatalf("read the answer to a request: %v", err)
	}
	if got[0] != answer {
		t.Fatalf("the answer is %q, want %q", got[0], answer)
	}
}

// secure does the TLS handshake.
func (w *wire) secure(t testing.TB, config *tls.Config) *wire {
	t.Helper()
	if err := w.handshake(config); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return w
}

func (w *wire) handshake(config *tls.Config) error {
	conn := tls.Client(w.socket, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	w.Conn = conn
	return nil
}

// negotiate asks for TLS and does the handshake.
func (w *wire) negotiate(t testing.TB, config *tls.Config) *wire {
	t.Helper()
	w.ask(t, sslRequest, 'S')
	return w.secure(t, config)
}

// state is that of the TLS connection.
func (w *wire) state() tls.ConnectionState { return w.Conn.(*tls.Conn).ConnectionState() }

// startup is a StartupMessage of the version with pairs of names and values.
func startup(version uint32, pairs ...string) []byte {
	body := binary.BigEndian.AppendUint32(make([]byte, 4), version)
	for _, text := range pairs {
		body = append(append(body, text...), 0)
	}
	body = append(body, 0)
	binary.BigEndian.PutUint32(body, uint32(len(body)))
	return body
}

// asPostgres is the usual StartupMessage.
func asPostgres() []byte { return startup(protocol30, "user", "postgres", "database", "postgres") }

// cancelKey is what the server gives to cancel a session's queries with.
type cancelKey struct {
	pid    uint32
	secret []byte
}

// packet is the CancelRequest for the key.
func (k cancelKey) packet() []byte {
	packet := []byte{0, 0, 0, 0, 0x04, 0xd2, 0x16, 0x2e}
	packet = binary.BigEndian.AppendUint32(packet, k.pid)
	packet = append(packet, k.secret...)
	binary.BigEndian.PutUint32(packet, uint32(len(packet)))
	return packet
}

// login sends the StartupMessage and reads up to the first ReadyForQuery.
func (w *wire) login(t testing.TB, packet []byte) cancelKey {
	t.Helper()
	w.send(t, packet)
	var key cancelKey
	for {
		kind, body := w.message(t)
		switch kind {
		case 'E':
			t.Fatalf("the login failed: %q", body)
		case 'K':
			key = cancelKey{binary.BigEndian.Uint32(body), append([]byte(nil), body[4:]...)}
			w.proxy.log.keepCancelKey(key.secret)
		case 'Z':
			return key
		}
	}
}

// message reads one message of the server.
func (w *wire) message(t testing.TB) (kind byte, body []byte) {
	t.Helper()
	kind, body, err := readMessage(w)
	if err != nil {
		t.Fatalf("read a message: %v", err)
	}
	return kind, body
}

func readMessage(r io.Reader) (kind byte, body []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(header[1:])-4)
	_, err = io.ReadFull(r, body)
	return header[0], body, err
}

// query is the message of a simple query.
func query(sql string) []byte {
	packet := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(len(sql)+5))
	return append(append(packet, sql...), 0)
}

// fatal reads the FATAL that ends the connection, and the end behind it.
func (w *wire) fatal(t testing.TB) *pgproto3.ErrorResponse {
	t.Helper()
	kind, body := w.message(t)
	if kind != 'E' {
		t.Fatalf("message %q, want an error", kind)
	}
	e := &pgproto3.ErrorResponse{}
	if err := e.Decode(body); err != nil {
		t.Fatal(err)
	}
	if e.Severity != "FATAL" || e.SeverityUnlocalized != "FATAL" {
		t.Errorf("severity %q", e.Severity)
	}
	w.ended(t)
	w.socket.Close() // the proxy waits for that, for a moment
	return e
}

// ended wants the end of the connection, in order: inside TLS behind a close_notify.
func (w *wire) ended(t testing.TB) {
	t.Helper()
	if rest, err := io.ReadAll(w); err != nil || len(rest) > 0 {
		t.Errorf("behind the last message came %q, %v; want the end", rest, err)
	}
}

// closed wants that the connection ends without a byte, however it ends.
func (w *wire) closed(t testing.TB) {
	t.Helper()
	rest, err := io.ReadAll(w)
	if len(rest) > 0 {
		t.Errorf("%q came, want silence", rest)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Error("the connection stays open")
	}
}

// vanish closes the socket without the goodbye of TLS, as the kernel does for a process that is killed. Close says it, and
// then the proxy lets the server finish what it is at.
func (w *wire) vanish() { w.socket.Close() }

// idOf is the connection id in a message.
func idOf(t testing.TB, message string) string {
	t.Helper()
	match := connectionID.FindStringSubmatch(message)
	if match == nil {
		t.Fatalf("%q has no connection id", message)
	}
	return match[1]
}

// withoutID is a message without its connection id.
func withoutID(message string) string {
	return strings.TrimSpace(connectionID.ReplaceAllString(message, ""))
}

// dialRaw connects, or not: for tests that want to know.
func dialRaw(p *proxy) (net.Conn, error) { return net.DialTimeout("tcp", p.Addr, patience) }
