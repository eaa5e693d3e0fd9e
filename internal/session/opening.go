package session

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/tlsconf"
)

// alpn is the protocol name that libpq offers since version 17: IANA's "postgresql".
const alpn = "postgresql"

// opening is how far the negotiation has come.
type opening struct {
	transport *relay.Transport
	direct    bool // TLS without an SSLRequest
	askedSSL  bool
	askedGSS  bool
	cancel    bool   // it was a CancelRequest
	cancels   string // the id of the session that it is for, if that is known
}

// errProbe is a connection that ended without a byte: a load balancer looks whether somebody listens.
var errProbe = errors.New("the peer left without a byte")

// errDone is a connection that has got what it asked for, and needs no session: a CancelRequest.
var errDone = errors.New("done")

// open brings a client from its first byte to its startup packet inside TLS.
func (c *connection) open() error {
	for c.tls == nil {
		o, err := pgwire.ReadOpening(c.conn)
		if err != nil {
			if o == (pgwire.Opening{}) && !c.opening.askedGSS && left(err) {
				return errProbe
			}
			return err
		}
		switch o.Kind() {
		case pgwire.GSSENCRequest:
			err = c.declineGSS(o)
		case pgwire.SSLRequest:
			err = c.acceptSSL(o)
		case pgwire.ClientHello:
			c.opening.direct = true
			if err = c.mayHandshake(); err == nil {
				err = c.handshake(o[:])
			}
		case pgwire.CancelRequest:
			return c.cancel(o, c.conn)
		default:
			return c.refusePlaintext(o)
		}
		if err != nil {
			return err
		}
	}
	err := c.openInside()
	c.opening.transport.Conn = c.conn // what comes now is for the relay to bound
	return err
}

// openInside reads the startup packet inside TLS. libpq may ask for encryption once more in a direct TLS
// connection, as PostgreSQL allows; behind an SSLRequest there is nothing left to ask for.
func (c *connection) openInside() error {
	for {
		o, err := pgwire.ReadOpening(c.tls)
		if err != nil {
			return err
		}
		switch kind := o.Kind(); kind {
		case pgwire.CancelRequest:
			return c.cancel(o, c.tls)
		case pgwire.SSLRequest, pgwire.GSSENCRequest:
			if err := c.declineInside(o, kind); err != nil {
				return err
			}
		default:
			c.startup, err = pgwire.ReadStartup(c.tls, o)
			return err
		}
	}
}

// left reports whether an error is that of a peer that closed its connection. Balancers save themselves the goodbye and
// reset it.
func left(err error) bool { return err == io.EOF || errors.Is(err, syscall.ECONNRESET) }

func (c *connection) declineInside(o pgwire.Opening, kind pgwire.Kind) error {
	asked := &c.opening.askedSSL
	if kind == pgwire.GSSENCRequest {
		asked = &c.opening.askedGSS
	}
	if !c.opening.direct || *asked {
		return askedAgain()
	}
	*asked = true
	if refused := o.CheckRequest(); refused != nil {
		return refused
	}
	_, err := c.tls.Write([]byte{'N'})
	return err
}

// declineGSS answers N: the client may go on with an SSLRequest.
func (c *connection) declineGSS(o pgwire.Opening) error {
	if c.opening.askedGSS {
		return askedAgain()
	}
	c.opening.askedGSS = true
	if err := c.checkRequest(o, "GSSAPI encryption"); err != nil {
		return err
	}
	_, err := c.conn.Write([]byte{'N'})
	return err
}

// acceptSSL answers S and starts TLS on the bare socket: what follows S is TLS or nothing.
func (c *connection) acceptSSL(o pgwire.Opening) error {
	if c.snap == nil {
		return &refusal.Refusal{Reason: refusal.NoPolicy}
	}
	if err := c.checkRequest(o, "SSL"); err != nil {
		return err
	}
	if err := c.mayHandshake(); err != nil {
		return err
	}
	if _, err := c.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	return c.handshake(nil)
}

// checkRequest refuses a request for encryption that has more behind it: a client sends nothing before it has
// read the answer, so somebody else did (CVE-2021-23214). What arrives later lands in TLS, which refuses it.
func (c *connection) checkRequest(o pgwire.Opening, encryption string) error {
	if refused := o.CheckRequest(); refused != nil {
		return refused
	}
	if pending(c.conn) {
		return &refusal.Refusal{
			Reason:  refusal.UnencryptedData,
			Message: fmt.Sprintf("received unencrypted data after %s request", encryption),
		}
	}
	return nil
}

func askedAgain() error {
	return &refusal.Refusal{Reason: refusal.ProtocolViolation, Message: "encryption was requested twice"}
}

// handshake does the TLS handshake. Read is what of a direct TLS opening has been read to recognise it. The
// client's certificate is asked for here and judged later, so that a refusal can be read by its user.
func (c *connection) handshake(read []byte) error {
	if c.snap == nil {
		return &refusal.Refusal{Reason: refusal.NoPolicy}
	}
	transport := relay.NewTransport(c.conn, read)
	limited := newLimitedConn(c.conn, c.unlisted)
	transport.Conn = limited
	c.opening.transport = transport
	conn := tls.Server(transport, c.snap.TLS)
	start := time.Now()
	err := c.server.admission.slots(c).run(&transport.Conn, c.deadline, conn.Handshake)
	c.times.handshake = time.Since(start)
	c.server.config.Metrics.Handshaken(c.times.handshake, err)
	if err != nil {
		return handshakeError(err)
	}
	tlsconf.Intern(conn.ConnectionState().PeerCertificates)
	c.tls = conn
	limited.Allow(maxBehindHandshake)
	if c.opening.direct && conn.ConnectionState().NegotiatedProtocol != alpn {
		// Somebody who meant another protocol (ALPACA), and would not understand an answer in this one.
		return &refusal.Refusal{Reason: refusal.ALPNMissing}
	}
	return nil
}

// handshakeError sorts a failed handshake. Time that ran out keeps its own name, and the client's certificate has one.
func handshakeError(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	if tlsconf.UnreadableCertificate(err) {
		return refusal.Because(refusal.CertificateUnreadable, err)
	}
	return refusal.Because(refusal.HandshakeFailed, err)
}

// refusePlaintext answers a startup packet without TLS. It says what would be said inside TLS as far as that is
// known: a client with sslmode=prefer comes here after it has been refused there, and shows this answer.
func (c *connection) refusePlaintext(o pgwire.Opening) error {
	startup, err := pgwire.ReadStartup(c.conn, o)
	if err != nil {
		return err
	}
	c.startup = startup
	q := c.request()
	switch {
	case c.snap == nil:
		return &refusal.Refusal{Reason: refusal.NoPolicy}
	case !c.snap.Admits(q.Addr, q.Now):
		return policy.RefuseAddress(q)
	}
	return &refusal.Refusal{Reason: refusal.TLSRequired}
}
