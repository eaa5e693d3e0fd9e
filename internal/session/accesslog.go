package session

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/tlsconf"
)

// Bounds of log fields with text that a client chose or had a hand in, in bytes.
const (
	maxField = 128
	maxCause = 1024 // errors and details
)

// finish takes a connection that had no relay out of the books. Its socket is closed.
func (c *connection) finish(err error) {
	defer c.record()
	c.mu.Lock()
	backend := c.backend
	c.mu.Unlock()
	if backend != nil {
		backend.Close()
	}
	c.server.table.leave(c)
	m := c.server.config.Metrics

	var refused *refusal.Refusal
	switch {
	case errors.Is(err, errProbe):
		m.Probed()
		c.log(zerolog.DebugLevel).Str("outcome", "probe").Msg("connection")
	case errors.Is(err, errDone):
		m.CancelForwarded()
		c.log(zerolog.InfoLevel).Str("outcome", "cancel_forwarded").Str("session", c.opening.cancels).Msg("connection")
	case errors.As(err, &refused):
		c.countCancel(refused)
		c.logRefusal(refused)
	default:
		c.logLost(err)
	}
}

// record marks a connection as over and recorded, once, however it came to that.
func (c *connection) record() {
	c.recorded.Do(func() {
		c.server.admission.unfinished.leave(c)
		c.mu.Lock()
		c.over = true
		receipt, ending, session := c.receipt, c.ending, c.running != nil
		c.mu.Unlock()
		if ending != nil {
			ending()
		}
		c.server.inForce(c.server.receipts.gone(receipt))
		c.server.config.Metrics.ConnectionClosed()
		c.server.tidiness.gone(session)
		c.server.serving.done()
	})
}

// logLost records a client that left before it had a session.
func (c *connection) logLost(err error) {
	suppressed, ok := c.server.events.pass(0)
	if !ok {
		return
	}
	event := c.log(zerolog.InfoLevel).Str("outcome", "client_lost").Str("error", safetext.Escape(err.Error(), maxCause))
	if suppressed > 0 {
		event.Int("suppressed", suppressed)
	}
	event.Msg("connection")
}

func (c *connection) countCancel(refused *refusal.Refusal) {
	switch {
	case !c.opening.cancel:
	case refused.Reason == refusal.BackendUnavailable:
		c.server.config.Metrics.CancelFailed()
	default:
		c.server.config.Metrics.CancelDenied()
	}
}

func (c *connection) logRefusal(refused *refusal.Refusal) {
	suppressed, ok := c.server.events.pass(refused.Reason)
	if !ok {
		return
	}
	c.server.refusals.add(c, refused)
	level := zerolog.InfoLevel
	if refused.Reason == refusal.BackendUnavailable || refused.Reason == refusal.OutOfDescriptors || refused.Reason == refusal.InternalError {
		level = zerolog.ErrorLevel
	}
	event := c.log(level).Str("outcome", "refused").Stringer("refusal", refused.Reason)
	if refused.Detail != "" {
		event.Str("detail", safetext.Escape(refused.Detail, maxCause))
	}
	if refused.Cause != nil {
		event.Str("error", safetext.Escape(refused.Cause.Error(), maxCause))
	}
	if suppressed > 0 {
		event.Int("suppressed", suppressed)
	}
	event.Msg("connection")
}

// finishRelay takes a session out of the books.
func (c *connection) finishRelay(result relay.Result) {
	defer c.record()
	c.server.table.leave(c)
	m := c.server.config.Metrics
	m.SessionEnded(time.Since(c.accepted))

	level := zerolog.InfoLevel
	var panicked *relay.Panic
	if errors.As(result.Err, &panicked) {
		m.Panicked()
		level = zerolog.ErrorLevel
	}
	event := c.log(level).Str("outcome", "served").Stringer("end", result.End).
		Int64("to_client_bytes", c.bytes.ToClient.Load()).
		Int64("to_server_bytes", c.bytes.ToServer.Load())
	if result.Err != nil {
		event.Str("error", safetext.Escape(result.Err.Error(), maxCause))
	}
	c.mu.Lock()
	stopped := c.stopped
	c.mu.Unlock()
	if stopped != nil {
		m.Refused(stopped.Reason)
		event.Stringer("refusal", stopped.Reason).Str("detail", safetext.Escape(stopped.Detail, maxCause))
		c.server.refusals.add(c, stopped)
	}
	event.Msg("connection")
}

// log begins the one event of a connection with all that is known of it by now. What the client chose is cleaned
// and cut; the startup packet's options, the cancel key and everything behind the startup packet are never in it.
func (c *connection) log(level zerolog.Level) *zerolog.Event {
	event := c.server.config.Log.WithLevel(level).
		Str("conn", c.id).
		Stringer("addr", c.addr).
		Dur("duration_ms", time.Since(c.accepted))
	if c.via.IsValid() {
		event.Stringer("via", c.via)
	}
	if c.snap != nil {
		event.Str("policy", c.snap.Generation)
	}
	if c.times.handshake > 0 {
		event.Dur("handshake_ms", c.times.handshake)
	}
	if c.times.dial > 0 {
		event.Dur("dial_ms", c.times.dial)
	}
	if c.tls != nil {
		state := c.tls.ConnectionState()
		event.Str("tls", tls.VersionName(state.Version)).
			Str("cipher", tls.CipherSuiteName(state.CipherSuite)).
			Bool("direct_tls", c.opening.direct)
		if state.ServerName != "" {
			event.Str("sni", safetext.Escape(state.ServerName, maxField))
		}
		if len(state.PeerCertificates) > 0 {
			leaf := state.PeerCertificates[0]
			event.Str("certificate", safetext.Escape(leaf.Subject.String(), maxField)).
				Str("serial", tlsconf.FormatSerial(leaf.SerialNumber))
		}
	}
	if c.startup != nil {
		event.Str("user", safetext.Escape(c.startup.User, maxField)).
			Str("database", safetext.Escape(c.startup.Database, maxField))
		if c.startup.ApplicationName != "" {
			event.Str("application", safetext.Escape(c.startup.ApplicationName, maxField))
		}
	}
	if rule := c.granted().Rule; rule != nil {
		event.Str("rule", rule.ID)
	}
	return event
}
