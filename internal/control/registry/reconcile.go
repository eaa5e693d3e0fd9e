package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/store"
)

// Reconcile does everything that is due: it issues successors for certificates that end soon, disables expired ones, ends
// expired rules, signs revocation lists again, and brings databases up to date with their space's authorities. It returns
// the time at which it should be called again if nothing changes before that; changes may bring the time forward, so call it
// at least every few minutes. One caller at a time suffices ([store.Store.Lead]); several do no harm.
//
// A failure for one database or authority does not delay the others; the error joins all failures.
func (r *Registry) Reconcile(ctx context.Context) (next time.Time, err error) {
	now := r.now()
	next = now.Add(time.Hour)
	soon := now.Add(time.Minute)
	databases, err := r.Databases(ctx)
	if err != nil {
		return soon, err
	}
	authorities, err := r.dueAuthorities(ctx, now, databases)
	problems := []error{err}
	for _, db := range databases {
		at := r.dueAt(&db, authorities[db.Space], now)
		if !at.After(now) {
			changed, unsigned, err := r.catchUp(ctx, db.ID)
			if unsigned != nil {
				problems = append(problems, fmt.Errorf("database %s: its revocation list can't be signed anew: %w", db.Name, unsigned))
			}
			switch at = r.dueAt(&changed, authorities[db.Space], now); {
			case err != nil && !gone(err):
				problems = append(problems, fmt.Errorf("database %s: %w", db.Name, err))
				at = soon
			case !at.IsZero() && !at.After(now):
				at = soon // what it waits for is not there yet
			}
		}
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if err := r.reconcilePublic(ctx, databases); err != nil {
		problems = append(problems, fmt.Errorf("public certificates: %w", err))
	}
	if err := r.claimDirs(ctx, databases); err != nil {
		problems = append(problems, fmt.Errorf("claim policy directories: %w", err))
	}
	return next, errors.Join(append(problems, r.prune(ctx, now, databases, authorities))...)
}

// catchUp does for one database all whose time has come, in as many transactions as that takes. Unsigned says why a
// revocation list that is due was not signed anew; all else was done nevertheless.
func (r *Registry) catchUp(ctx context.Context, id string) (changed Database, unsigned, err error) {
	for {
		more := false
		changed, err = r.change(ctx, audit.System, id, func(c *change) (err error) {
			more, err = c.catchUp()
			unsigned = c.unsigned
			return err
		})
		if err != nil || !more {
			return changed, unsigned, err
		}
	}
}

// dueAuthorities warns of authorities that end, and gives databases what an older release revoked of theirs. It gives the
// authorities by space, those too for which that failed.
func (r *Registry) dueAuthorities(ctx context.Context, now time.Time, databases []Database) (map[string][]Authority, error) {
	spaces, err := r.Spaces(ctx)
	if err != nil {
		return nil, err
	}
	var problems []error
	bySpace := make(map[string][]Authority)
	for _, space := range spaces {
		list, err := r.replaceEarly(ctx, now, space)
		if err != nil {
			problems = append(problems, err)
		}
		for i := range list {
			a := &list[i]
			if a.State == RetiredCA {
				continue
			}
			if err := errors.Join(r.dueAuthority(ctx, now, a), r.distribute(ctx, a, databases)); err != nil && !errors.Is(err, store.ErrConflict) {
				problems = append(problems, fmt.Errorf("authority %s of space %s: %w", a.ID, space, err))
			}
		}
		bySpace[space] = list
	}
	return bySpace, errors.Join(problems...)
}

// caWarning is how long before its end an authority's end is told: the client certificates that it issues are getting
// shorter than they should be from then on, with time left to act.
const caWarning = 18 * 30 * 24 * time.Hour

func (r *Registry) dueAuthority(ctx context.Context, now time.Time, a *Authority) error {
	if a.State != ActiveCA || a.Warned || !a.NotAfter.Before(now.Add(caWarning)) {
		return nil
	}
	told := *a
	told.Warned = true
	tx, key := new(store.Tx), authorityKey(a.Space, a.ID)
	tx.If(key, a.revision)
	notice := outbox.Notice{Kind: outbox.CAExpiring, At: now, Space: a.Space, Authority: a.Subject, ExpiresAt: a.NotAfter}
	if err := errors.Join(r.outbox.Add(tx, notice), docstore.Put(tx, key, told)); err != nil {
		return err
	}
	revision, err := r.docs.Commit(ctx, tx)
	if err == nil {
		told.revision = revision
		*a = told
	}
	return err
}

// NextDue returns when something of a database is next due, as far as its document tells; zero: never, as things are. What
// its space's authorities bring about, [Registry.Reconcile] finds.
func (r *Registry) NextDue(db *Database) time.Time { return r.dueAt(db, nil, r.now()) }

// dueAt returns when a database next needs [change.catchUp]; zero: never, as things are.
func (r *Registry) dueAt(db *Database, authorities []Authority, now time.Time) (at time.Time) {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if e := db.Enhanced; e != nil && e.Leaf != nil {
		sooner(e.Leaf.usableUntil())
		if told := e.nextEnding(); !told.IsZero() {
			sooner(told)
		}
	}
	if !db.governed() {
		return at
	}
	if db.unsettled() {
		return now
	}
	state := make(map[string]AuthorityState)
	for _, a := range authorities {
		state[a.ID] = a.State
		if (db.trusts(a.ID) != nil) != (a.State != RetiredCA) {
			return now
		}
	}
	for _, t := range db.Trust {
		sooner(r.listDue(t, now))
	}
	if db.Server == nil || state[db.Server.CA] == RetiredCA || db.Server.early(now) {
		return now
	}
	sooner(db.Server.NotAfter.Add(-r.renewServerBefore(db.Server)))
	for _, rule := range db.Rules {
		if rule.Status != Deauthorizing && !rule.ExpiresAt.IsZero() {
			sooner(rule.ExpiresAt)
		}
	}
	for _, cert := range db.Certificates {
		if !cert.Usable() {
			continue
		}
		if state[cert.CA] == RetiredCA {
			return now
		}
		sooner(cert.ExpiresAt)
		if !cert.DisableAt.IsZero() {
			sooner(cert.DisableAt)
		} else if renew := r.successorAt(cert, state[cert.CA], now); !renew.IsZero() {
			sooner(renew)
		}
	}
	return at
}

// manyDue is how many certificates one transaction ends or replaces when they are due together.
const manyDue = 10

// catchUp does what is due for one database, and reports whether more is due than fits into one transaction.
func (c *change) catchUp() (more bool, err error) {
	if err := errors.Join(c.expireEnhanced(), c.notifyEnding()); err != nil {
		return false, err
	}
	if !c.db.governed() {
		if c.records == 0 {
			return false, errUnchanged
		}
		return false, nil
	}
	list, err := c.ofSpace()
	if err != nil {
		return false, err
	}
	state := make(map[string]AuthorityState)
	for _, a := range list {
		state[a.ID] = a.State
	}
	if err := c.expireRules(); err != nil {
		return false, err
	}
	ended, err := c.endCertificates(state)
	if err != nil {
		return false, err
	}
	replaced, err := c.makeSuccessors(state)
	if err != nil {
		return false, err
	}
	if err := c.renewServer(); err != nil {
		return false, err
	}
	if err := c.syncTrust(); err != nil {
		return false, err
	}
	if c.records == 0 && c.db.Generation == c.before && !c.db.unsettled() {
		return false, errUnchanged
	}
	return ended == manyDue || replaced == manyDue, nil
}

func (c *change) expireRules() error {
	var ids, cidrs []string
	for i := range c.db.Rules {
		rule := &c.db.Rules[i]
		if rule.Status == Deauthorizing || rule.ExpiresAt.IsZero() || rule.ExpiresAt.After(c.now) {
			continue
		}
		c.removeRule(rule)
		ids, cidrs = append(ids, rule.ID), append(cidrs, rule.CIDR)
	}
	if len(ids) > manyAtOnce {
		return c.audit("ip_rule.expired", "", map[string]string{"objects": strings.Join(ids, " "), "cidr": strings.Join(cidrs, " ")})
	}
	for i, id := range ids {
		if err := c.audit("ip_rule.expired", id, map[string]string{"cidr": cidrs[i]}); err != nil {
			return err
		}
	}
	return nil
}

// endCertificates revokes those that were to be revoked by now, and disables those that have ended by themselves or
// with their authority. Proxies end the sessions of the latter by their own clocks.
func (c *change) endCertificates(state map[string]AuthorityState) (ended int, err error) {
	var revoked []*Certificate
	for i := range c.db.Certificates {
		if ended == manyDue {
			break
		}
		cert := &c.db.Certificates[i]
		var action string
		switch {
		case !cert.Usable():
			continue
		case !cert.ExpiresAt.After(c.now):
			c.disable(cert)
			action = "certificate.expired"
		case state[cert.CA] == RetiredCA:
			cert.Status, cert.Generation, cert.UpdatedAt = Disabling, c.newPolicy(), c.now
			action = "certificate.delete"
		case !cert.DisableAt.IsZero() && !cert.DisableAt.After(c.now):
			revoked = append(revoked, cert)
			action = "certificate.delete"
		default:
			continue
		}
		ended++
		if err := c.audit(action, cert.ID, map[string]string{"serial": cert.Serial}); err != nil {
			return ended, err
		}
	}
	if len(revoked) == 0 {
		return ended, nil
	}
	return ended, c.revoke(revoked...)
}

// renewServer replaces a server certificate that ends or is not valid yet, by the authority that its clients know.
func (c *change) renewServer() error {
	list, err := c.ofSpace()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(a *Authority) bool { return a.ID == c.db.Server.CA && a.State != RetiredCA })
	if i >= 0 && !c.serverDue() {
		return nil
	}
	a, err := c.active()
	if err != nil {
		return err
	}
	if i >= 0 && list[i].NotAfter.After(c.now.Add(c.lifetimes.Server)) && !list[i].early(c.now) {
		a = list[i]
	}
	if i >= 0 && a.early(c.now) {
		return nil // what it issues would not be valid yet either
	}
	return c.issueServer(a)
}
