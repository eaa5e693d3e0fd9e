package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Progress is where the next certificate is, for people.
type Progress struct {
	Reason      Reason
	Detail      string
	HelpURL     string
	Since       time.Time
	NextAttempt time.Time // zero: at once, or not needed
}

// Progress returns what a certificate waits for. What it waits for together with others is noted at the authority, so it
// is not always the reason in the document.
func (m *Manager) Progress(ctx context.Context, cert Certificate) (Progress, error) {
	now := m.now()
	p := Progress{Reason: cert.Reason, Detail: cert.Detail, HelpURL: cert.HelpURL, Since: cert.Since, NextAttempt: cert.NotBefore}
	due := cert.dueAt()
	if due.IsZero() || due.After(now) {
		if p.NextAttempt.IsZero() {
			p.NextAttempt = due
		}
		return p, nil
	}
	name := cert.CA
	if m.authority(name) == nil {
		name = m.authorities[0].Name
	}
	a, err := m.authorityStatus(ctx, m.authority(name))
	switch {
	case err != nil:
		return p, err
	case a.Problem != "":
		return Progress{Reason: AccountProblem, Detail: a.Problem, Since: cert.Since, NextAttempt: a.Retry}, nil
	case !a.AwaySince.IsZero() && a.Reason != "":
		return Progress{Reason: a.Reason, Detail: a.Detail, Since: a.AwaySince, NextAttempt: later(a.ClosedUntil, now)}, nil
	case p.Reason == Queued:
		order, domain := a.budget.wait(&m.authority(name).CA, cert.Names, cert.Leaf != nil, now)
		if wait := max(order, domain); wait > 0 {
			p.NextAttempt = now.Add(wait)
			p.Detail = fmt.Sprintf("the limits of %s leave no order before then", name)
		}
	}
	return p, nil
}

// AuthorityStatus is what is known of a certificate authority.
type AuthorityStatus struct {
	Name        string
	Directory   string
	Account     string    // URL; empty: there is none yet
	Problem     string    // of the account
	Retry       time.Time // of the account
	ClosedUntil time.Time // it is asked nothing before then
	AwaySince   time.Time // zero: its last answer was one
	Reason      Reason    // for which it is not asked
	Detail      string
	OrdersLeft  int // of the budget; -1: there is no limit

	budget budget
}

// Authorities returns the state of every configured authority, in their order.
func (m *Manager) Authorities(ctx context.Context) ([]AuthorityStatus, error) {
	var all []AuthorityStatus
	for _, a := range m.authorities {
		status, err := m.authorityStatus(ctx, a)
		if err != nil {
			return nil, err
		}
		all = append(all, status)
	}
	return all, nil
}

func (m *Manager) authorityStatus(ctx context.Context, a *authority) (AuthorityStatus, error) {
	status := AuthorityStatus{Name: a.Name, Directory: a.Directory, OrdersLeft: -1}
	kept, _, err := docstore.Get[account](ctx, m.docs.Store, keyAccounts+a.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return status, err
	}
	if kept.Directory == a.Directory {
		status.Account, status.Problem, status.Retry = kept.URL, kept.Problem, kept.Retry
	}
	b, _, err := docstore.Get[budget](ctx, m.docs.Store, keyBudgets+a.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return status, err
	}
	status.ClosedUntil, status.AwaySince, status.Reason, status.Detail, status.budget = b.OpenUntil, b.OpenSince, b.Reason, b.Detail, b
	if a.NewOrders.Burst > 0 {
		status.OrdersLeft = max(0, int(b.Orders.available(a.NewOrders, m.now())))
	}
	return status, nil
}
