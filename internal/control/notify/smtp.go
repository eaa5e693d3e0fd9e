package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"

	gomail "github.com/wneessen/go-mail"
)

// maxReplies bounds what a mail server may say in one connection, in bytes, its TLS handshake included. The library
// reads a line for as long as it goes on.
const maxReplies = 256 << 10

// dialer is net.Dialer.DialContext.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// errTalkative ends a connection to a server that never comes to an end.
var errTalkative = errors.New("the mail server's response is too long")

// bounded is a connection that reads maxReplies at most. Reads come from one goroutine at a time.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errTalkative
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// deliver sends the letters through one connection, which is closed when it returns. Results has an error or nil for
// each letter; err means that none was sent.
func (m Mail) deliver(ctx context.Context, letters []*gomail.Msg) (results []error, err error) {
	var line hangUp
	defer line.close()
	client, err := m.client(func(dialing context.Context, network, address string) (net.Conn, error) {
		raw, err := m.dialer()(dialing, network, address)
		if err != nil {
			return nil, err
		}
		line.watch(ctx, raw)
		conn := &bounded{raw, maxReplies}
		if m.TLS != ImplicitTLS {
			return conn, nil
		}
		secure := tls.Client(conn, m.tlsConfig())
		return secure, secure.HandshakeContext(dialing)
	})
	if err != nil {
		return nil, err
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return nil, err
	}
	results = make([]error, len(letters))
	for i, letter := range letters {
		// A letter that the server has taken stays taken when what comes after it fails: to send it again would be a
		// double.
		if err := client.SendWithSMTPClient(session, letter); err != nil && !letter.IsDelivered() {
			results[i] = err
		}
	}
	_ = session.Quit() // all is said: a server that hangs up first has lost nothing
	return results, nil
}

// hangUp closes a connection when its context ends, and at the latest when it is told to. The library looks at the
// context while it dials only, starts its own deadline anew with each letter, and leaves the connection open when the
// server's greeting or the log-in fails.
type hangUp struct {
	conn net.Conn
	stop func() bool
}

func (h *hangUp) watch(ctx context.Context, conn net.Conn) {
	h.conn, h.stop = conn, context.AfterFunc(ctx, func() { conn.Close() })
}

func (h *hangUp) close() {
	if h.conn != nil {
		h.stop()
		h.conn.Close()
	}
}

// client is the library's client for one use.
func (m Mail) client(dial gomail.DialContextFunc) (*gomail.Client, error) {
	host, port, _ := net.SplitHostPort(m.Address) // Check has looked
	number, _ := strconv.Atoi(port)
	options := []gomail.Option{
		gomail.WithPort(number),
		gomail.WithTimeout(2 * mailTimeout), // never first: hangUp keeps the time
		gomail.WithDialContextFunc(dial),
		gomail.WithTLSConfig(m.tlsConfig()),
		gomail.WithTLSPolicy(gomail.NoTLS), // here it means: no STARTTLS
	}
	if m.TLS == "" || m.TLS == StartTLS {
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if m.Username != "" {
		// The mechanisms in the order of how sure they are to work: servers that keep hashes offer SCRAM and can't do
		// it. The connection is encrypted or does not leave this machine.
		mechanisms := []gomail.SMTPAuthType{gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthSCRAMSHA256}
		if m.TLS == NoTLS {
			mechanisms = []gomail.SMTPAuthType{gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc, gomail.SMTPAuthSCRAMSHA256}
		}
		options = append(options, gomail.WithUsername(m.Username), gomail.WithPassword(m.Password), gomail.WithOpportunisticSMTPAuth(mechanisms...))
	}
	return gomail.NewClient(host, options...)
}

func (m Mail) tlsConfig() *tls.Config {
	host, _, _ := net.SplitHostPort(m.Address)
	return &tls.Config{ServerName: host, RootCAs: m.RootCAs, MinVersion: tls.VersionTLS12}
}

func (m Mail) dialer() dialer {
	switch {
	case m.dial != nil:
		return m.dial
	case m.TLS == NoTLS:
		return (&net.Dialer{ControlContext: onlyLoopback}).DialContext
	}
	return (&net.Dialer{}).DialContext
}
