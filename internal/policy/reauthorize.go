package policy

import (
	"crypto/x509"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/tlsconf"
)

// Reauthorizer asks a snapshot again about sessions that live. It decides as [Snapshot.Authorize] does, and is quick about it:
// a verdict that neither a change nor time can have altered is not sought again.
type Reauthorizer struct {
	snapshot *Snapshot
	now      time.Time
}

// Reauthorizer begins a review at a moment.
func (s *Snapshot) Reauthorizer(now time.Time) *Reauthorizer {
	return &Reauthorizer{snapshot: s, now: now}
}

// Authorize decides whether a session that was let in on the grounds of had may go on, and on which grounds it does.
//
// Revocation that can't be known is no reason to end it: the certificate was checked when the session began, and a
// list that nobody renewed in time would end every session at once. Its address and its user are asked for all the same.
func (r *Reauthorizer) Authorize(q Request, had Grant) (Grant, *refusal.Refusal) {
	if r.snapshot.OnRemoval == config.OnRemovalKeep {
		return had, nil
	}
	q.Now = r.now
	return r.snapshot.decide(q, func(chain []*x509.Certificate, now time.Time) (*tlsconf.Identity, *refusal.Refusal) {
		identity, refused := r.judge(chain, had)
		if refused != nil && refused.Reason == refusal.RevocationUnknown && had.Identity != nil {
			return had.Identity, nil
		}
		return identity, refused
	})
}

// judge uses the verdict that let the session in, if neither what it was asked of nor time has changed it.
func (r *Reauthorizer) judge(chain []*x509.Certificate, had Grant) (*tlsconf.Identity, *refusal.Refusal) {
	if had.Identity != nil && had.trust == r.snapshot.Trust && !r.now.After(had.Identity.Until) {
		return had.Identity, nil
	}
	return r.snapshot.Trust.Verify(chain, r.now)
}
