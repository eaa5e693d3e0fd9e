package session

import (
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/refusal"
)

// A refused client has a moment to read why and leave. A socket that is closed with unread input resets the
// connection, and the message is lost on the way.
const (
	refusalLinger = 2 * time.Second
	refusalDrain  = 16 << 20 // bytes that it may have sent ahead
)

// refuse tells the client why, in TLS if that is up. The caller closes.
func (c *connection) refuse(r *refusal.Refusal) {
	c.server.config.Metrics.Refused(r.Reason)
	if c.silent || r.Reason.Silent() || c.opening.cancel || r.Reason == refusal.StartupTimeout && c.tls == nil {
		return
	}
	message, err := pgwire.Fatal(r.Response(c.id))
	if err != nil {
		return
	}
	c.conn.SetDeadline(time.Now().Add(refusalLinger))
	if c.tls != nil {
		_, err = c.tls.Write(message)
		c.tls.CloseWrite()
	} else {
		_, err = c.conn.Write(message)
	}
	half, ok := c.conn.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		return
	}
	c.conn.SetDeadline(time.Now().Add(refusalLinger)) // tls.Conn.CloseWrite sets one of its own
	_, _ = io.CopyN(io.Discard, c.conn, refusalDrain) // until the client closes, too
}

// explainChannelBinding adds what PostgreSQL can't know to a login that fails over a TLS backend: SCRAM binds the
// client to the certificate that it sees, which is the proxy's. The two errors come from auth-scram.c.
func explainChannelBinding(e *pgproto3.ErrorResponse) bool {
	if e.Code != "28000" || !strings.Contains(e.Message, "channel binding") && e.File != "auth-scram.c" {
		return false
	}
	const hint = "A TLS proxy is between this client and PostgreSQL, and the two connections use different certificates. " +
		"Connect with channel_binding=disable, or let the proxy connect to PostgreSQL over a unix socket or with the same certificate and key."
	if e.Hint != "" {
		e.Hint += " "
	}
	e.Hint += hint
	return true
}
