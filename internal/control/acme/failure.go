package acme

import (
	"context"
	"errors"
	"time"

	"pgmtls-proxy/internal/control/store"
)

// fail returns what follows from a problem of a certificate: when it is tried again, and where. An order that is spent is
// to be cleaned up.
func (m *Manager) fail(ctx context.Context, a *authority, cert *Certificate, o *order, err error) (outcome, error) {
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		return outcome{}, err
	}
	now := m.now()
	log := m.log.Warn().Err(p).Str("certificate", cert.ID).Strs("names", cert.Names).Str("ca", a.Name)
	if p.Everybody && !p.Spent || p.Reason == ClockWrong || p.Reason == AccountProblem && o == nil && len(m.authorities) == 1 {
		// The others wait for the same, so nothing is noted here that is noted there.
		log.Msg("waiting for the certificate authority")
		if p.NotBefore.After(now) && p.Reason == RateLimited {
			return m.wait(ctx, cert, p, now)
		}
		if p.Reason == ClockWrong || p.Reason == AccountProblem {
			return at(later(p.NotBefore, now.Add(troubleWait))), nil
		}
		return at(now.Add(breakerFirst)), nil
	}
	cert.Failures++
	cert.Tried++
	cert.Reason, cert.Detail, cert.HelpURL = p.Reason, p.Detail, p.URL
	cert.Since, cert.UpdatedAt = now, now
	cert.NotBefore = now.Add(backoff(cert.Failures))
	if p.Reason == Rejected {
		cert.NotBefore = now.Add(backoff(4))
	}
	if next := m.after(a); next != a && cert.Tried >= a.AfterFailures && (o == nil || p.Spent) {
		cert.CA, cert.Tried = next.Name, 0
		if cert.Failures < len(m.authorities)*a.AfterFailures {
			cert.NotBefore = now.Add(backoff(1)) // it has not failed there yet
		}
	}
	if o != nil && p.Spent {
		o.Phase = phaseCleaning
	}
	log.Time("next_attempt", cert.NotBefore).Msg("no public certificate yet")
	return m.commit(ctx, new(store.Tx), cert, o, &Event{Kind: EventFailed, At: now, Certificate: *cert, CA: a.Name, Problem: p})
}

// wait keeps in the store that the authority wants to be asked about a certificate at a later moment only.
func (m *Manager) wait(ctx context.Context, cert *Certificate, p *Problem, now time.Time) (outcome, error) {
	cert.Reason, cert.Detail, cert.HelpURL, cert.NotBefore = p.Reason, p.Detail, p.URL, p.NotBefore
	cert.Since, cert.UpdatedAt = now, now
	tx := new(store.Tx)
	if err := put(tx, keyCertificates+cert.ID, cert.revision, cert); err != nil {
		return outcome{}, err
	}
	_, err := m.docs.Commit(ctx, tx)
	return goOn, err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// after is the authority that is tried after one; the first comes after the last.
func (m *Manager) after(a *authority) *authority {
	for i, other := range m.authorities {
		if other == a {
			return m.authorities[(i+1)%len(m.authorities)]
		}
	}
	return m.authorities[0]
}
