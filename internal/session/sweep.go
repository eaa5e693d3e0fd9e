package session

import (
	"context"
	"fmt"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

const (
	// sweepAtLeast is how often the live sessions are asked for without a reason: a clock may have been set.
	sweepAtLeast = time.Minute
	// maxSweepCancels is how many queries a sweep cancels at once. Each takes a process at the backend.
	maxSweepCancels = 32
)

// PolicyChanged says that a snapshot has come into force. It does not wait: [Server.Sweep] asks the live sessions.
func (s *Server) PolicyChanged(previous, next *policy.Snapshot) {
	s.receipts.open(previous, next)
	s.wakeSweep()
}

func (s *Server) wakeSweep() {
	select {
	case s.sweep <- struct{}{}:
	default: // one is due already
	}
}

// Sweep ends live sessions exactly when their permission ends, until the context is done: at each change of the
// policy, and at the moment at which a rule or a certificate runs out. It returns the context's cause.
func (s *Server) Sweep(ctx context.Context) error {
	timer := time.NewTimer(sweepAtLeast)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.sweep:
		case <-timer.C:
		}
		timer.Reset(s.sweepOnce(time.Now()))
	}
}

// sweepOnce asks every live session's permission again, and tells when to do so next.
//
// Sessions that begin meanwhile need not be found: they have registered before they compare their snapshot with the
// one in force (see enter), so one that isn't in the list finds the change itself.
func (s *Server) sweepOnce(now time.Time) time.Duration {
	// The receipt first: a change that comes in between is then not said to be in force before its own sweep.
	receipt := s.receipts.current()
	snapshot := s.config.Policy.Current()
	if snapshot == nil {
		return sweepAtLeast
	}
	review := snapshot.Review(now)
	kept := 0
	next := now.Add(sweepAtLeast)
	for _, c := range s.table.list() {
		grant, refused := review.Authorize(c.request(), c.granted())
		if refused != nil {
			c.forbid(refused, receipt, snapshot.EndGrace)
			continue
		}
		kept++
		c.setGrant(grant)
		// A moment that is over ended nothing (on_removal: keep), and is not waited for.
		if until := grant.Until(); until.After(now) && until.Before(next) {
			next = until
		}
	}
	if s.receipts.swept(receipt, kept) {
		s.inForce(receipt)
	}
	s.nextSweep.Store(next.UnixNano())
	return max(time.Until(next), 0)
}

// expect makes the next sweep come in time for a session that has just begun.
func (s *Server) expect(grant policy.Grant) {
	if until := grant.Until(); !until.IsZero() && until.UnixNano() < s.nextSweep.Load() {
		s.wakeSweep()
	}
}

// inForce records that a change is in force for everybody.
func (s *Server) inForce(p *pendingReceipt) {
	s.receipts.mu.Lock()
	defer s.receipts.mu.Unlock()
	ended := 0
	for _, n := range p.Ended {
		ended += n
	}
	took := p.InForceAt.Sub(p.AppliedAt)
	s.config.Metrics.PolicyInForce(took)
	s.config.Log.Info().Str("generation", p.Generation).Str("digest", p.Digest).
		Int("sessions_ended", ended).Int("sessions_kept", p.Kept).Dur("took_ms", took).
		Strs("ip_rules_added", p.Changes.RulesAdded).Strs("ip_rules_removed", p.Changes.RulesRemoved).
		Strs("certificates_added", p.Changes.CertificatesAdded).Strs("certificates_removed", p.Changes.CertificatesRemoved).
		Msg("policy in force for every session")
}

// forbid ends a session that is no longer allowed. An idle one reads why at once. One in a query has it cancelled first,
// so that it ends at a message boundary too; what is left when the grace is over is closed.
func (c *connection) forbid(refused *refusal.Refusal, receipt *pendingReceipt, grace time.Duration) {
	if !c.account(receipt, refused.Reason) {
		return // it is over, or told already
	}
	c.stop(relay.WhenIdle, refusal.New(refusal.SessionForbidden, "%s", forbidden(refused, c)))
	time.AfterFunc(grace, c.abort)
	if !c.stream.Idle() {
		go c.cancelEnding()
	}
}

// account makes the end of a live session count for a change of the policy.
func (c *connection) account(receipt *pendingReceipt, reason refusal.Reason) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.stopped != nil {
		return false
	}
	c.receipt = receipt
	c.server.receipts.forbid(receipt, reason)
	return true
}

// forbidden says to a client why its session ends.
func forbidden(refused *refusal.Refusal, c *connection) string {
	switch {
	case refused.Reason == refusal.AddressNotAllowed:
		return fmt.Sprintf("No IP rule allows the address %s any more.", c.addr)
	case refused.Detail != "":
		return refused.Detail
	}
	return "The access policy does not allow this session any more: " + refused.Response("").Message + "."
}

// cancelEnding cancels the query of a session that is told to end. Its backend serves nobody else.
func (c *connection) cancelEnding() {
	c.server.sweepCancels <- struct{}{}
	defer func() { <-c.server.sweepCancels }()
	key, known := c.server.table.keyOf(c)
	if !known || c.stream.Idle() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	if err := c.server.database(c.server.config.Policy.Current()).Cancel(ctx, pgwire.CancelPacket(key)); err != nil {
		c.server.config.Log.Warn().Str("conn", c.id).Err(err).Msg("the query of a session that is told to end could not be cancelled")
	}
}
