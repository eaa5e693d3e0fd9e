// Package session is the life of one connection, written as a script: open, handshake, read the startup packet,
// authorize, enter, dial, relay, record.
//
// It holds the order of things, which is the proxy's main promise: nothing of a client reaches the database,
// and the database is not even dialled, before the policy has said yes to that client. What it asks is package
// policy's, the bytes on the wire are pgwire's, and moving them is relay's.
//
// It stands behind package listener, which it doesn't know: a [Server] serves any [net.Conn].
package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/metrics"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/safetext"
)

// Server serves connections. Make it with [New]; its methods are safe for concurrent use.
type Server struct {
	config    Config
	table     *Table
	admission *admission
	sweep     chan struct{} // a sweep is due
	nextSweep atomic.Int64  // when the next one is, in Unix nanoseconds
	receipts  receipts
	refusals  refusals
	events    sampler
	serving   serving
	tidiness  *tidiness
	// database is the way to PostgreSQL of a snapshot: its Backend, or what a test puts in its place.
	database func(*policy.Snapshot) database
}

// database is what a session asks of a way to PostgreSQL.
type database interface {
	Dial(context.Context) (net.Conn, error)
	Cancel(ctx context.Context, packet []byte) error
}

// Config is what a server needs.
type Config struct {
	Policy  *policy.Live
	Metrics *metrics.Metrics
	Log     zerolog.Logger
	Relay   relay.Engine // moves the bytes of sessions; nil is [relay.Goroutines]

	// ProxyProtocol are the networks of load balancers: a connection from there must begin with a PROXY header.
	ProxyProtocol []netip.Prefix
	// StartupTimeout bounds a connection from its accept to the begin of its relay. Bytes don't renew it. Addresses that no rule
	// allows have 10 s at most, and so has everybody while many are slow.
	StartupTimeout time.Duration
	// Handshakes is how many TLS handshakes may compute at once; 0 is two a processor. One that waits for its client
	// doesn't count.
	Handshakes int
	// MaxSessions and MaxSessionsPerAddress bound the sessions that may be live at once; 0 is no bound.
	MaxSessions, MaxSessionsPerAddress int
	// HandshakesPerSecond bounds the TLS handshakes that begin, strangers' left out; 0 is no bound.
	HandshakesPerSecond int
	// UnfinishedPerAddress bounds the connections of an address that are no session yet; 0 is no bound.
	UnfinishedPerAddress int
	// FirstByteTimeout bounds the time from the startup packet to the server's first byte; 0 is no bound, and no answer to a
	// client whose server ends before that.
	FirstByteTimeout time.Duration
	// SessionLifetime and IdleTimeout end sessions that are older, or idle for longer; 0 is no bound. They need ExpireSessions.
	SessionLifetime, IdleTimeout time.Duration
	// MaxCancels bounds the CancelRequests of clients at the backend at once, MaxOwnCancels the cancels for sessions that are told
	// to end; 0 is [MaxCancels] and [MaxOwnCancels].
	MaxCancels, MaxOwnCancels int
	// IdentitySettings tells PostgreSQL who a session's client is, by settings in its startup packet.
	IdentitySettings bool
	// ForwardAnyCancel forwards CancelRequests for keys that no session here has: for several proxies behind
	// one balancer.
	ForwardAnyCancel bool
}

// New makes a server.
func New(config Config) *Server {
	if config.Relay == nil {
		config.Relay = relay.Goroutines{}
	}
	s := &Server{
		config:    config,
		table:     newTable(config.MaxSessions, config.MaxSessionsPerAddress),
		admission: newAdmission(config),
		sweep:     make(chan struct{}, 1),
		tidiness:  newTidiness(collections),
		database:  func(s *policy.Snapshot) database { return s.Backend },
	}
	config.Metrics.ObserveSessions(s.table)
	config.Metrics.ObserveHandshakes(s.admission.handshaking)
	return s
}

// Table is the table of live sessions.
func (s *Server) Table() *Table { return s.table }

// Wait returns when every connection that was served is over and recorded, or with the cause of ctx. It is called when
// Serve will be called no more.
func (s *Server) Wait(ctx context.Context) error { return s.serving.wait(ctx) }

// Serve serves one connection, which it owns. It returns when the connection is over or its relay has begun; the
// relay goes on without the caller's goroutine.
func (s *Server) Serve(ctx context.Context, conn net.Conn) {
	s.serving.add()
	s.tidiness.accepted()
	s.config.Metrics.ConnectionOpened()
	c := newConnection(s, conn)
	defer c.recoverPanic()
	err := c.start(ctx)
	if err == nil {
		return // the relay calls c.relayed
	}
	c.end(err)
}

// recoverPanic is deferred by all code of a connection. When it breaks, that one connection ends: its client is told
// nothing, since nobody knows in which state its TLS is.
func (c *connection) recoverPanic() {
	value := recover()
	if value == nil {
		return
	}
	text := safetext.Escape(fmt.Sprint(value), maxCause)
	c.server.config.Metrics.Panicked()
	c.server.config.Metrics.Refused(refusal.InternalError)
	c.server.config.Log.Error().Str("conn", c.id).Str("panic", text).Bytes("stack", debug.Stack()).
		Msg("panic while serving a connection; the connection was closed")
	c.conn.Close()
	c.finish(refusal.Because(refusal.InternalError, errors.New("panic: "+text)))
}

// start is the script.
func (c *connection) start(ctx context.Context) error {
	// One deadline for all that comes before the relay, counted from the accept. It is a short one until the client is known to
	// be allowed. No byte renews it. relay() clears it, and nothing else does.
	if err := c.setDeadline(unlistedTimeout); err != nil {
		return err
	}
	if err := c.identifyClient(); err != nil {
		return err
	}
	if err := c.server.admission.unfinished.enter(c); err != nil {
		return err
	}
	if err := c.shedUnlisted(); err != nil {
		return err
	}
	if err := c.extendDeadline(); err != nil {
		return err
	}
	if err := c.open(); err != nil {
		return err
	}
	if err := c.authorize(); err != nil {
		return err
	}
	if err := c.enter(); err != nil {
		return err
	}
	if err := c.dial(ctx); err != nil {
		return err
	}
	return c.relay()
}

// end answers the error that stopped the script, and closes.
func (c *connection) end(err error) {
	refused := c.refusalFor(err)
	if refused != nil {
		c.refuse(refused)
		err = refused
	}
	c.conn.Close()
	c.finish(err)
}

// refusalFor finds the refusal in an error. Nil means that there is nobody to be refused: the client left.
func (c *connection) refusalFor(err error) *refusal.Refusal {
	var refused *refusal.Refusal
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refusal.Because(refusal.StartupTimeout, err)
	}
	return nil
}
