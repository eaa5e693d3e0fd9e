package session

import (
	"context"
	"time"

	"pgmtls-proxy/internal/policy"
)

// sweepAtLeast is how often the live sessions are asked for without a reason: a clock may have been set.
const sweepAtLeast = time.Minute

// PolicyChanged records that a snapshot has come into force. It does not wait: [Server.Sweep] asks the live sessions.
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
// one in force (see enter), so one that isn't in the list finds the change itself. And no later snapshot than this one
// has let in a session of the list, since it is still in force behind it.
func (s *Server) sweepOnce(now time.Time) time.Duration {
	next := now.Add(sweepAtLeast)
	s.nextSweep.Store(next.UnixNano()) // before the list: one that isn't in it and ends sooner wakes the next sweep
	snapshot := s.config.Policy.Current()
	if snapshot == nil {
		return sweepAtLeast
	}
	receipt, open := s.receipts.of(snapshot)
	sessions := s.table.list()
	if !open || s.config.Policy.Current() != snapshot {
		return sweepAtLeast // it has just changed, and PolicyChanged is about to wake us
	}
	review := snapshot.Reauthorizer(now)
	kept := 0
	for _, c := range sessions {
		grant, refused := review.Authorize(c.request(), c.granted())
		if refused != nil {
			c.revoke(refused, receipt, snapshot.EndGrace)
			continue
		}
		if c.renewGrant(grant) {
			kept++
		}
		// A moment that is over ended nothing (on_removal: keep), and is not waited for.
		if until := grant.Until(); until.After(now) && until.Before(next) {
			next = until
		}
	}
	s.inForce(s.receipts.swept(receipt, kept))
	s.nextSweep.Store(next.UnixNano())
	return max(time.Until(next), 0)
}

// expect makes the next sweep come in time for a session that has just begun.
func (s *Server) expect(grant policy.Grant) {
	if until := grant.Until(); !until.IsZero() && until.UnixNano() < s.nextSweep.Load() {
		s.wakeSweep()
	}
}

// inForce records changes that are now in force for everybody.
func (s *Server) inForce(receipts []Receipt) {
	for _, r := range receipts {
		ended := 0
		for _, n := range r.Ended {
			ended += n
		}
		took := r.InForceAt.Sub(r.AppliedAt)
		s.config.Metrics.PolicyInForce(took)
		s.config.Log.Info().Str("generation", r.Generation).Str("digest", r.Digest).
			Int("sessions_ended", ended).Int("sessions_kept", r.Kept).Dur("took_ms", took).
			Strs("ip_rules_added", r.Changes.RulesAdded).Strs("ip_rules_removed", r.Changes.RulesRemoved).
			Strs("certificates_added", r.Changes.CertificatesAdded).Strs("certificates_removed", r.Changes.CertificatesRemoved).
			Msg("policy in force for every session")
	}
}

// renewGrant gives a session the grounds on which it goes on, and reports whether it does: one that was told to end ends,
// also when a later change would allow it again.
func (c *connection) renewGrant(grant policy.Grant) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grant = grant
	return c.ending == nil
}
