package session

import (
	"context"
	"crypto/tls"
	"encoding/base32"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

// connection is one client's connection. Its script runs in one goroutine; what others may touch is behind mu,
// atomic, or set before the connection enters the table.
type connection struct {
	server     *Server
	conn       net.Conn   // the client's socket
	id         string     // in the log and in what the client reads
	addr       netip.Addr // the client's
	via        netip.Addr // the balancer's that announced it; invalid without one
	unlisted   bool       // no rule has allowed the address when it came
	silent     bool       // a refusal is told to nobody
	unfinished bool       // it is counted among its address's
	patient    bool       // it is counted among those that may take longer than unlistedTimeout
	activity   activity
	accepted   time.Time
	deadline   time.Time

	snap    *policy.Snapshot
	opening opening
	tls     *tls.Conn // nil before TLS
	startup *pgwire.Startup
	backend net.Conn
	stream  pgwire.ServerStream
	bytes   relay.Bytes
	times   times

	mu       sync.Mutex
	grant    policy.Grant
	running  relay.Relay      // nil before the relay
	stopped  *refusal.Refusal // why the session was told to end
	stopWhen relay.When
	stopDial context.CancelFunc
	ending   context.CancelFunc // of the seeing out of a session that the policy no longer allows; nil: it may go on
	receipt  *pendingReceipt    // of the change that ended it
	over     bool               // the connection is recorded

	recorded sync.Once // the connection is out of the books
}

// times are how long the steps took. Zero: not reached.
type times struct{ handshake, dial time.Duration }

func newConnection(server *Server, conn net.Conn) *connection {
	return &connection{
		server:   server,
		conn:     conn,
		id:       newID(),
		addr:     peerAddress(conn),
		accepted: time.Now(),
		snap:     server.config.Policy.Current(),
	}
}

// newID is a name for a connection: 64 random bits, so that it is unique across proxies, in characters that can be
// read over the telephone. It is no secret.
func newID() string {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], rand.Uint64())
	return idEncoding.EncodeToString(raw[:])
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// peerAddress is the client's address. An IPv4 address that a dual-stack socket shows as ::ffff:a.b.c.d is the IPv4
// address. A connection without one has the invalid address, which no rule allows.
func peerAddress(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// request is what the client asks the policy with, as far as it is known by now.
func (c *connection) request() policy.Request {
	q := policy.Request{Addr: c.addr, Now: time.Now()}
	if c.tls != nil {
		q.Chain = c.tls.ConnectionState().PeerCertificates
	}
	if c.startup != nil {
		q.User, q.Database = c.startup.User, c.startup.Database
	}
	return q
}

// shedUnlisted closes a denied address without a word when more of its kind have been answered lately than is worth
// their handshakes: a stranger costs about a millisecond of CPU.
func (c *connection) shedUnlisted() error {
	c.unlisted = c.snap == nil || !c.snap.Admits(c.addr, c.accepted)
	if c.unlisted && !c.server.admission.unlistedRate.take(c.addr) {
		return &refusal.Refusal{Reason: refusal.AddressShed}
	}
	return nil
}

// authorize asks the policy. Everything that the client could show is on the table by now.
func (c *connection) authorize() error {
	grant, refused := c.snap.Authorize(c.request())
	if refused != nil {
		return refused
	}
	c.setGrant(grant)
	return nil
}

// granted is on which grounds the connection was let in.
func (c *connection) granted() policy.Grant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.grant
}

func (c *connection) setGrant(grant policy.Grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grant = grant
}

// enter registers the session, and asks the policy again if it has changed meanwhile. In this order: a change
// either finds the session in the table, or the session finds the change.
func (c *connection) enter() error {
	if refused := c.server.table.enter(c); refused != nil {
		return refused
	}
	if current := c.server.config.Policy.Current(); current != c.snap {
		c.snap = current
		if err := c.authorize(); err != nil {
			return err
		}
	}
	c.server.expect(c.granted())
	return nil
}

// dial connects to PostgreSQL and sends it what the client sent, with its identity if that is asked for.
func (c *connection) dial(ctx context.Context) error {
	packet, err := c.startupPacket()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	if told := c.dialling(cancel); told != nil {
		return told
	}
	start := time.Now()
	backend, err := c.server.database(c.snap).Dial(ctx)
	c.times.dial = time.Since(start)
	if told := c.dialling(nil); told != nil && err != nil {
		return told // nothing is wrong with the backend
	}
	if outOfDescriptors(err) {
		return refusal.Because(refusal.OutOfDescriptors, err)
	}
	c.server.config.Metrics.Dialed(c.times.dial, err)
	if err != nil {
		return refusal.Because(refusal.BackendUnavailable, err)
	}
	c.backend = backend
	backend.SetDeadline(c.deadline)
	if _, err := backend.Write(packet); err != nil {
		return refusal.Because(refusal.BackendUnavailable, err)
	}
	return nil
}

// dialling returns how a dial is given up if the session is told to end, nil when it is over. The session may have been
// told already.
func (c *connection) dialling(cancel context.CancelFunc) (told *refusal.Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopDial = cancel
	return c.stopped
}

// relay hands both connections over. From here on the session has no deadline, and its end is c.relayed.
func (c *connection) relay() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped != nil {
		return c.stopped
	}
	c.conn.SetDeadline(time.Time{})
	c.backend.SetDeadline(time.Time{})
	c.startup.Raw = nil // sent, and up to 10 kB for as long as the session lives
	c.stream.OnKey = c.learnKey
	if c.snap.Backend.TLS != nil {
		c.stream.Explain = explainChannelBinding
	}
	c.server.admission.unfinished.leave(c)
	link := relay.Link{
		Client:    c.tls,
		Transport: c.opening.transport,
		Server:    c.backend,
		Stream:    &c.stream,
		Bytes:     &c.bytes,
	}
	if limit := c.server.config.FirstByteTimeout; limit > 0 {
		link.Unanswered, link.FirstByte = c.backendUnavailable, limit
	}
	c.running = c.server.config.Relay.Start(link, c.relayed)
	c.backend = nil // it is the relay's
	c.server.tidiness.begun()
	return nil
}

// backendUnavailable is what a client is told of a server that takes the connection and sends nothing.
func (c *connection) backendUnavailable() []byte {
	message, err := pgwire.Fatal((&refusal.Refusal{Reason: refusal.BackendUnavailable}).Response(c.id))
	if err != nil {
		return nil
	}
	return message
}

func (c *connection) learnKey(key pgwire.Key) { c.server.table.learn(c, key) }

// stop ends a live session with a last word, at the moment that is given. Before the relay the script says it. Told again,
// a session keeps the first reason, and the moment that comes sooner.
func (c *connection) stop(when relay.When, why *refusal.Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped == nil:
		c.stopped = why
	case when >= c.stopWhen:
		return
	}
	c.stopWhen = when
	if c.stopDial != nil {
		c.stopDial()
	}
	if c.running != nil {
		if message, err := pgwire.Fatal(c.stopped.Response(c.id)); err == nil {
			c.running.Stop(when, message)
		}
	}
}

// cancelling records that the statement of a session that was told to end is about to be cancelled: its client reads why the session
// ends, and not the server's error for a cancel that the client did not ask for.
func (c *connection) cancelling() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil && c.stopped != nil {
		c.running.Cancelling()
	}
}

// abort ends a live session now.
func (c *connection) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil {
		c.running.Abort()
		return
	}
	c.conn.Close()
}

// relayed is the end of a relay. Both connections are closed.
func (c *connection) relayed(result relay.Result) {
	defer c.recoverPanic()
	if result.End == relay.Unanswered {
		c.server.config.Metrics.Refused(refusal.BackendUnavailable)
		c.finish(refusal.Because(refusal.BackendUnavailable, result.Err))
		return
	}
	if result.ServerOpen {
		c.cancelQuery()
	}
	c.finishRelay(result)
}

// cancelQuery cancels what a client has left running: PostgreSQL would notice that nobody listens only when it
// next writes. The key is of a backend that serves nobody else.
func (c *connection) cancelQuery() {
	key, known := c.server.table.keyOf(c)
	if !known {
		return
	}
	if err := c.server.cancelByKey(context.Background(), c.snap, key); err != nil {
		c.server.config.Log.Warn().Str("conn", c.id).Err(err).
			Msg("the client is gone, and its query could not be cancelled; the query may still be running in the database")
	}
}

// cancelByKey sends a cancel of the proxy's own, bounded.
func (s *Server) cancelByKey(ctx context.Context, at *policy.Snapshot, key pgwire.Key) error {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	return s.database(at).Cancel(ctx, pgwire.CancelPacket(key))
}
