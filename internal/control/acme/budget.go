package acme

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Limit is a token bucket of an authority's rate limit.
type Limit struct {
	Burst int           // tokens of a full bucket; 0: no limit
	Every time.Duration // in which one token comes back
}

// budget is what the store keeps of an authority's limits and troubles. It is the leader's, and others only read it.
type budget struct {
	Orders  bucket            `json:"orders"`            // new orders of the account
	Domains map[string]bucket `json:"domains,omitempty"` // certificates of a registered domain

	// The breaker: after a failure nothing is asked before OpenUntil, and then one question decides.
	Failures  int       `json:"failures,omitempty"` // in a row
	OpenUntil time.Time `json:"open_until,omitzero"`
	OpenSince time.Time `json:"open_since,omitzero"`
	Reason    Reason    `json:"reason,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Told      bool      `json:"told,omitempty"` // people were told that it limits us for long

	revision int64
}

// bucket is a token bucket as of a moment.
type bucket struct {
	Spent float64   `json:"spent"` // tokens that are missing
	At    time.Time `json:"at"`
}

// available counts the tokens that a bucket has now.
func (b bucket) available(l Limit, now time.Time) float64 {
	return float64(l.Burst) - b.missing(l, now)
}

func (b bucket) missing(l Limit, now time.Time) float64 {
	if l.Every <= 0 || now.Before(b.At) {
		return b.Spent
	}
	return max(0, b.Spent-float64(now.Sub(b.At))/float64(l.Every))
}

// wait returns how long it takes until the bucket has more than so many tokens; 0: it has.
func (b bucket) wait(l Limit, reserve float64, now time.Time) time.Duration {
	if lack := reserve + 1 - b.available(l, now); l.Burst > 0 && lack > 1e-6 {
		return time.Duration(lack*float64(l.Every)) + time.Millisecond
	}
	return 0
}

func (b bucket) take(l Limit, now time.Time) bucket {
	return bucket{Spent: b.missing(l, now) + 1, At: now}
}

// reserved is the part of the orders that is kept for renewals.
const reserved = 5

// limitedLong is how long an authority may limit us without people being told.
const limitedLong = time.Hour

// The breaker's waits: doubled with each failure, from the first to the last.
const (
	breakerFirst = time.Second
	breakerLast  = 10 * time.Minute
)

// budgetOf is the budget of one authority, as the leader has it in memory and in the store.
type budgetOf struct {
	m  *Manager
	ca *CA

	mu      sync.Mutex
	loaded  bool
	state   budget
	probing bool // one question is under way that decides whether the breaker closes
}

// forget has the next load read the budget: another leader may have been at work since.
func (b *budgetOf) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loaded, b.probing = false, false
}

// load reads the budget, unless that was done and nobody else has changed it since.
func (b *budgetOf) load(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loaded {
		return nil
	}
	state, revision, err := docstore.Get[budget](ctx, b.m.docs.Store, keyBudgets+b.ca.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	state.revision = revision
	b.state, b.loaded = state, true
	return nil
}

// commit writes a new state, with what else belongs to it. The caller has the lock.
func (b *budgetOf) commit(ctx context.Context, tx *store.Tx, next budget) error {
	if err := put(tx, keyBudgets+b.ca.Name, b.state.revision, next); err != nil {
		return err
	}
	revision, err := b.m.docs.Commit(ctx, tx)
	if errors.Is(err, store.ErrConflict) {
		b.loaded = false // another leader was here
	}
	if err != nil {
		return err
	}
	next.revision = revision
	b.state = next
	return nil
}

// enter asks whether the authority may be asked something now. If not, it gives when to try again. Who may must call
// leave with what came of it.
func (b *budgetOf) enter() (until time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.m.now()
	switch {
	case now.Before(b.state.OpenUntil):
		return b.state.OpenUntil, false
	case b.state.Failures > 0 && b.probing:
		return now.Add(breakerFirst), false
	case b.state.Failures > 0:
		b.probing = true
	}
	return time.Time{}, true
}

// leave records what came of the questions. Only what concerns everybody opens the breaker, and only an answer closes it.
func (b *budgetOf) leave(ctx context.Context, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	p, failed := errors.AsType[*Problem](err)
	switch {
	case failed && p.Everybody && p.Reason != AccountProblem:
		return b.open(ctx, p)
	case b.state.Failures == 0 || err != nil && !failed:
		return nil
	}
	next := b.state
	next.Failures, next.OpenUntil, next.OpenSince, next.Reason, next.Detail, next.Told = 0, time.Time{}, time.Time{}, "", "", false
	return b.commit(ctx, new(store.Tx), next)
}

// open counts a failure. An authority that is overloaded says how long to wait. One that limits may mean a single
// certificate, so the others try again sooner, and less and less soon while it goes on.
func (b *budgetOf) open(ctx context.Context, p *Problem) error {
	now := b.m.now()
	next := b.state
	next.Failures++
	next.Reason, next.Detail = p.Reason, p.Detail
	if next.OpenSince.IsZero() {
		next.OpenSince = now
	}
	wait := min(breakerLast, breakerFirst<<min(next.Failures-1, 20))
	if p.Reason == RateLimited {
		wait = min(4*time.Hour, time.Minute<<min(2*(next.Failures-1), 20))
		if asked := p.NotBefore.Sub(now); asked > 0 {
			wait = min(wait, asked)
		}
	} else if asked := p.NotBefore.Sub(now); asked > wait {
		wait = asked
	}
	next.OpenUntil = now.Add(wait + rand.N(wait/10+1))
	tx := new(store.Tx)
	if p.Reason == RateLimited && !next.Told && p.NotBefore.Sub(now) > limitedLong {
		next.Told = true
		if err := b.m.record(tx, Event{Kind: EventLimited, At: now, CA: b.ca.Name, Problem: p}); err != nil {
			return err
		}
	}
	return b.commit(ctx, tx, next)
}

// tokens returns how long it takes until the account may make a new order, and until there may be another certificate for
// the registered domains of the names; 0: now. Renewals may take what is kept back of the orders for them, and are not
// counted against their domain.
func (b *budgetOf) tokens(names []string, renewal bool) (order, domain time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.wait(b.ca, names, renewal, b.m.now())
}

func (b *budget) wait(ca *CA, names []string, renewal bool, now time.Time) (order, domain time.Duration) {
	if renewal {
		return b.Orders.wait(ca.NewOrders, 0, now), 0
	}
	for _, name := range registeredDomains(names) {
		domain = max(domain, b.Domains[name].wait(ca.Certificates, 0, now))
	}
	return b.Orders.wait(ca.NewOrders, float64(ca.NewOrders.Burst/reserved), now), domain
}

// take spends the tokens of an order in the transaction that begins it. If there are none any more, it gives how long
// it takes until there are, and nothing is committed.
func (b *budgetOf) take(ctx context.Context, tx *store.Tx, names []string, renewal bool) (wait time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.m.now()
	if order, domain := b.state.wait(b.ca, names, renewal, now); order > 0 || domain > 0 {
		return max(order, domain), nil
	}
	next := b.state
	next.Orders = next.Orders.take(b.ca.NewOrders, now)
	if !renewal && b.ca.Certificates.Burst > 0 {
		next.Domains = maps.Clone(next.Domains)
		if next.Domains == nil {
			next.Domains = map[string]bucket{}
		}
		maps.DeleteFunc(next.Domains, func(_ string, full bucket) bool { return full.missing(b.ca.Certificates, now) == 0 })
		for _, domain := range registeredDomains(names) {
			next.Domains[domain] = next.Domains[domain].take(b.ca.Certificates, now)
		}
	}
	return 0, b.commit(ctx, tx, next)
}

// awaySince returns since when the authority has failed; zero: it has not.
func (b *budgetOf) awaySince() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.OpenSince
}

// registeredDomains are the domains that authorities count by: one label below a public suffix.
func registeredDomains(names []string) []string {
	var domains []string
	for _, name := range names {
		name = strings.TrimPrefix(name, "*.")
		domain, err := publicsuffix.EffectiveTLDPlusOne(name)
		if err != nil {
			domain = name
		}
		domains = append(domains, domain)
	}
	slices.Sort(domains)
	return slices.Compact(domains)
}
