package acme

import (
	"context"
	"errors"
	"time"

	"pgmtls-proxy/internal/control/store"
)

// Warning specifies how urgent it is that somebody looks after a renewal. Each is given once for a leaf.
type Warning int

// The warnings, in the order in which they come.
const (
	notWarned Warning = iota
	ThirdLeft         // overdue, and a third of the life is left or less
	SixthLeft
	DayLeft
	Ended // the leaf has expired
)

// overdueAfter is how long after its moment a renewal is late, at most. An order takes seconds.
const overdueAfter = 6 * time.Hour

// warning returns the warning that is due for a certificate that is wanted.
func (c *Certificate) warning(now time.Time) Warning {
	if c.Leaf == nil || !c.RemovedAt.IsZero() {
		return notWarned
	}
	life, left := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore), c.Leaf.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return Ended
	case !c.Overdue(now):
		return notWarned
	case left <= min(24*time.Hour, life/12):
		return DayLeft
	case left <= life/6:
		return SixthLeft
	case left <= life/3:
		return ThirdLeft
	}
	return notWarned
}

// Overdue reports whether the renewal of a certificate that is wanted is late.
func (c *Certificate) Overdue(now time.Time) bool {
	if c.Leaf == nil || !c.RemovedAt.IsZero() {
		return false
	}
	return now.Sub(c.RenewAt()) >= min(overdueAfter, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/60)
}

// warn notes a warning, and has it told.
func (m *Manager) warn(ctx context.Context, cert *Certificate, level Warning, now time.Time) (outcome, error) {
	cert.Warned, cert.UpdatedAt = level, now
	kind := EventFailing
	if level == Ended {
		kind = EventExpired
	}
	m.log.Error().Str("certificate", cert.ID).Strs("names", cert.Names).Time("not_after", cert.Leaf.NotAfter).
		Str("reason", string(cert.Reason)).Str("detail", cert.Detail).Msg("the public certificate is not renewed yet")
	tx := new(store.Tx)
	if err := m.addOrder(tx, cert, nil, &Event{Kind: kind, At: now, Certificate: *cert, CA: cert.Leaf.CA}); err != nil {
		return outcome{}, err
	}
	_, err := m.docs.Commit(ctx, tx)
	return goOn, err
}

// revoke revokes the leaf whose key may be known to others. Its successor is everywhere by now. What the authority
// refuses for good is told, and not tried again.
func (m *Manager) revoke(ctx context.Context, cert *Certificate, now time.Time) (outcome, error) {
	a := m.authority(cert.Revoke.CA)
	if a == nil {
		return m.revoked(ctx, cert, newProblem(Rejected, "its certificate authority %s is not configured any more; revoke it there by hand", cert.Revoke.CA), now)
	}
	until, ok := a.budget.enter()
	if !ok {
		return at(until), nil
	}
	err := m.requestRevocation(ctx, a, cert.Revoke.ID)
	if err := a.budget.leave(ctx, err); err != nil {
		return outcome{}, err
	}
	p, isProblem := errors.AsType[*Problem](err)
	switch {
	case err != nil && !isProblem:
		return outcome{}, err
	case isProblem && !p.Spent:
		m.log.Warn().Err(p).Str("certificate", cert.ID).Msg("the compromised certificate is not revoked yet")
		return at(later(p.NotBefore, now.Add(time.Minute))), nil
	}
	return m.revoked(ctx, cert, p, now)
}

func (m *Manager) requestRevocation(ctx context.Context, a *authority, leaf string) error {
	account, err := m.account(ctx, a)
	if err != nil {
		return err
	}
	chainPEM, _, err := m.LeafFiles(ctx, leaf)
	if err != nil {
		return err
	}
	chain, err := parseChain(chainPEM)
	if err != nil {
		return err
	}
	return a.client.revoke(ctx, account, chain[0])
}

// revoked notes that the leaf was revoked, or why it was not.
func (m *Manager) revoked(ctx context.Context, cert *Certificate, p *Problem, now time.Time) (outcome, error) {
	tx := new(store.Tx)
	if old := cert.Revoke.ID; old != cert.Previous {
		tx.Delete(keyLeaves + old)
	}
	event := Event{Kind: EventRevoked, At: now, Certificate: *cert, CA: cert.Revoke.CA, Problem: p}
	cert.Revoke, cert.RevokeNow, cert.UpdatedAt = nil, false, now
	if err := m.addOrder(tx, cert, nil, &event); err != nil {
		return outcome{}, err
	}
	_, err := m.docs.Commit(ctx, tx)
	return goOn, err
}
