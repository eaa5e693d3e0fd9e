package session

import (
	"context"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

// Bounds of how often sessions are looked at for their age: a tenth of the shorter limit, but not more often than is worth
// it, and not less often than an operator expects.
const (
	lookAtMost  = 100 * time.Millisecond
	lookAtLeast = 10 * time.Second
)

// ExpireSessions ends live sessions that have lived, or been idle, for longer than they may, until the context is done. It returns the
// context's cause.
//
// Nothing is measured when a message passes. A session that has moved no byte since the last look, and waits for its
// client, has been idle for that long; so it ends up to one look later than it could.
func (s *Server) ExpireSessions(ctx context.Context) error {
	lifetime, idle := s.config.SessionLifetime, s.config.IdleTimeout
	shorter := min(lifetime, idle)
	if shorter == 0 {
		shorter = max(lifetime, idle)
	}
	if shorter == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	tick := time.NewTicker(min(max(shorter/10, lookAtMost), lookAtLeast))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			now := time.Now()
			for _, c := range s.table.list() {
				c.endIfOld(now)
			}
		}
	}
}

// activity is what [Server.ExpireSessions], and nobody else, knows of a session.
type activity struct {
	bytes int64     // moved by the last look
	since time.Time // of the first look at which they were that many; zero: none so far
}

func (c *connection) endIfOld(now time.Time) {
	limits := &c.server.config
	if limits.SessionLifetime > 0 && now.Sub(c.accepted) >= limits.SessionLifetime {
		c.stop(relay.OutsideTransaction, refusal.New(refusal.SessionLifetime, "A session may last %s.", limits.SessionLifetime))
		return
	}
	moved := c.bytes.ToClient.Load() + c.bytes.ToServer.Load()
	if moved != c.activity.bytes || c.activity.since.IsZero() {
		c.activity = activity{moved, now}
	}
	// Inside of a transaction it is the server's to say how long a session may wait: idle_in_transaction_session_timeout.
	if limits.IdleTimeout > 0 && now.Sub(c.activity.since) >= limits.IdleTimeout && c.state() == OutsideTx && c.stream.Idle() {
		c.stop(relay.OutsideTransaction, refusal.New(refusal.SessionIdle, "A session may be idle for %s.", limits.IdleTimeout))
	}
}
