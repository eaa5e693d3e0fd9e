package acme

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"pgmtls-proxy/internal/control/store"
)

const (
	// orderLife is how long an order may take. Authorities give it hours; what has not come about in one is begun anew.
	orderLife = time.Hour
	// keptAfter is how long the leaf of a certificate is kept that nobody wants any more.
	keptAfter = 7 * 24 * time.Hour
	// awayLong is how long an authority may be away before certificates are asked of the next one.
	awayLong = time.Hour
	// troubleWait is how long a certificate waits for what concerns everybody, where nothing else says.
	troubleWait = 10 * time.Minute
)

// outcome is what is to be done next for a certificate.
type outcome struct {
	again time.Time // when; zero: nothing, as things are
	more  bool      // at once: another step
}

func at(t time.Time) outcome { return outcome{again: t} }

var goOn = outcome{more: true}

// dueAt is when a certificate needs an order; zero: never, since nobody wants it.
func (c *Certificate) dueAt() time.Time {
	var due time.Time
	switch {
	case !c.RemovedAt.IsZero():
		return time.Time{}
	case c.Leaf == nil, !covers(c.Leaf.Names, c.Names), c.RenewNow:
		due = c.UpdatedAt
	default:
		due = c.RenewAt()
	}
	if due.Before(c.NotBefore) {
		return c.NotBefore
	}
	return due
}

// advance does one step for a certificate.
func (m *Manager) advance(ctx context.Context, j *job, cert *Certificate, o *order) (outcome, error) {
	now := m.now()
	if level := cert.warning(now); level > cert.Warned {
		return m.warn(ctx, cert, level, now)
	}
	if o != nil {
		return m.advanceOrder(ctx, j, cert, o, now)
	}
	if !cert.RemovedAt.IsZero() {
		if gone := cert.RemovedAt.Add(keptAfter); !cert.Purge && now.Before(gone) {
			return at(gone), nil
		}
		return outcome{}, m.remove(ctx, cert)
	}
	if cert.RevokeNow {
		return m.revoke(ctx, cert, now)
	}
	due := cert.dueAt()
	if !due.After(now) {
		return m.begin(ctx, cert, now)
	}
	if cert.Leaf != nil && !j.askAt.IsZero() && !j.askAt.After(now) {
		return m.queryWindow(ctx, j, cert, now)
	}
	if cert.Leaf != nil {
		if j.askAt.IsZero() {
			j.askAt = cert.Leaf.nextAsk(cert.ID, now)
		}
		if j.askAt.Before(due) {
			return at(j.askAt), nil
		}
	}
	return at(due), nil
}

// choose returns the authority that a certificate is to be asked of: the first, or a later one after failures at those
// before it, or another one while that is away.
func (m *Manager) choose(cert *Certificate, now time.Time) *authority {
	chosen := m.authority(cert.CA)
	if chosen == nil {
		chosen = m.authorities[0]
	}
	for _, a := range append([]*authority{chosen}, m.authorities...) {
		if since := a.budget.awaySince(); since.IsZero() || now.Sub(since) < awayLong {
			return a
		}
	}
	return chosen
}

// replaces returns the id that an order for a certificate names as its predecessor's; empty: none.
func (c *Certificate) replaces(ca string) string {
	if c.Leaf == nil || c.NoReplace || c.Leaf.CA != ca || !overlaps(c.Leaf.Names, c.Names) {
		return ""
	}
	return c.Leaf.ARI
}

func overlaps(a, b []string) bool {
	for _, name := range a {
		if covers(b, []string{name}) {
			return true
		}
	}
	return false
}

// begin commits a new order, after all that would make it fail and can be found out before.
func (m *Manager) begin(ctx context.Context, cert *Certificate, now time.Time) (outcome, error) {
	a := m.choose(cert, now)
	replaces := cert.replaces(a.Name)
	if replaces == "" {
		if order, domain := a.budget.tokens(cert.Names, cert.Leaf != nil); order > 0 || domain > 0 {
			return at(now.Add(max(order, domain))), nil
		}
	}
	until, ok := a.budget.enter()
	if !ok {
		return at(until), nil
	}
	account, profile, err := m.prepare(ctx, a, cert)
	if err := a.budget.leave(ctx, err); err != nil {
		return outcome{}, err
	}
	if err != nil {
		return m.fail(ctx, a, cert, nil, err)
	}
	_, key, err := newKey()
	if err != nil {
		return outcome{}, err
	}
	o := &order{Phase: phaseNew, CA: a.Name, Account: account, Profile: profile, Replaces: replaces, Names: cert.Names, StartedAt: now}
	tx := new(store.Tx).Put(keyOrderKeys+cert.ID, m.docs.Ring.Seal(keyOrderKeys+cert.ID, key))
	renewal := cert.Leaf != nil
	cert.progress(Ordered, now)
	event := Event{Kind: EventOrdered, At: now, Certificate: *cert, CA: a.Name}
	if replaces != "" {
		return m.commit(ctx, tx, cert, o, &event) // authorities count no renewal that says what it replaces
	}
	if err := m.addOrder(tx, cert, o, &event); err != nil {
		return outcome{}, err
	}
	if wait, err := a.budget.take(ctx, tx, cert.Names, renewal); err != nil || wait > 0 {
		return at(now.Add(wait)), err
	}
	m.count(event)
	return goOn, nil
}

// prepare returns the account and the profile for an order, once nothing is known that would make it fail.
func (m *Manager) prepare(ctx context.Context, a *authority, cert *Certificate) (account, profile string, err error) {
	meta, err := a.client.directory(ctx)
	if err != nil {
		return "", "", err
	}
	ahead, err := a.client.clock(ctx)
	if err != nil {
		return "", "", err
	}
	if p := clockProblem(ahead, a.client.transport.host); p != nil {
		return "", "", p
	}
	ours, err := m.account(ctx, a)
	if err != nil {
		return "", "", err
	}
	profile = a.Profile
	if _, ok := meta.Profiles[profile]; !ok && profile != "" {
		m.log.Warn().Str("ca", a.Name).Str("profile", profile).Msg("the certificate authority does not offer the profile any more; taking its default")
		profile = ""
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	check := precheck{resolver: m.options.Resolver, method: m.method, identities: meta.CAAIdentities, account: ours.Location}
	if err := check.run(ctx, cert.Names); err != nil {
		return "", "", notCancelled(ctx, err)
	}
	if m.method == methodPersist {
		return ours.Location, profile, notCancelled(ctx, check.persist(ctx, cert.Names))
	}
	if zone, ok := m.options.Solver.(*RFC2136); ok {
		err = notCancelled(ctx, m.checkZone(ctx, zone, cert.Names))
	}
	return ours.Location, profile, err
}

// checkZone asks whether the server has the zone, and whether the challenge of each name leads into it: what could not be
// made must not cost an order.
func (m *Manager) checkZone(ctx context.Context, zone *RFC2136, names []string) error {
	if err := zone.Check(ctx); err != nil {
		return err
	}
	for _, name := range names {
		_, at, err := m.options.Resolver.texts(ctx, challengeName(name))
		if err != nil {
			return err
		}
		if !isBelow(at, zone.Zone) {
			return newProblem(DNSFailed, "%s is not in the zone %s, which is what may be changed; make a record: %s CNAME %s",
				at, zone.Zone, challengeName(name), canonical(strings.TrimPrefix(name, "*.")+"."+zone.Zone))
		}
	}
	return nil
}

// notCancelled makes a problem of what took too long.
func notCancelled(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return newProblem(DNSFailed, "the name servers did not answer in time")
	}
	return err
}

// progress notes how far a certificate is.
func (c *Certificate) progress(reason Reason, now time.Time) {
	if c.Reason != reason {
		c.Since = now
	}
	c.Reason, c.Detail, c.HelpURL, c.UpdatedAt = reason, "", "", now
}

// addOrder adds a certificate and its order to a transaction, with an event if there is one.
func (m *Manager) addOrder(tx *store.Tx, cert *Certificate, o *order, event *Event) error {
	if err := put(tx, keyCertificates+cert.ID, cert.revision, cert); err != nil {
		return err
	}
	if o != nil {
		if err := put(tx, keyOrders+cert.ID, o.revision, o); err != nil {
			return err
		}
	}
	if event == nil {
		return nil
	}
	return m.record(tx, *event)
}

// record adds to a transaction what is to be kept of an event.
func (m *Manager) record(tx *store.Tx, event Event) error {
	if m.options.Record == nil {
		return nil
	}
	return m.options.Record(tx, event)
}

// remove deletes all of a certificate.
func (m *Manager) remove(ctx context.Context, cert *Certificate) error {
	tx := new(store.Tx).If(keyCertificates+cert.ID, cert.revision).Delete(keyCertificates + cert.ID)
	if cert.Leaf != nil {
		tx.Delete(keyLeaves + cert.Leaf.ID)
	}
	if cert.Previous != "" {
		tx.Delete(keyLeaves + cert.Previous)
	}
	if cert.Revoke != nil && cert.Revoke.ID != cert.Previous {
		tx.Delete(keyLeaves + cert.Revoke.ID)
	}
	if err := m.record(tx, Event{Kind: EventRemoved, At: m.now(), Certificate: *cert}); err != nil {
		return err
	}
	_, err := m.docs.Commit(ctx, tx)
	return err
}

// abandon ends an order that is of no use any more, without a failure.
func (m *Manager) abandon(ctx context.Context, cert *Certificate, o *order, why string) (outcome, error) {
	m.log.Info().Str("certificate", cert.ID).Str("ca", o.CA).Msg(fmt.Sprintf("the order is given up: %s", why))
	o.Phase = phaseCleaning
	tx := new(store.Tx)
	if err := put(tx, keyOrders+cert.ID, o.revision, o); err != nil {
		return outcome{}, err
	}
	_, err := m.docs.Commit(ctx, tx)
	return goOn, err
}

// ours is the account of an order, with its key.
func (m *Manager) ours(ctx context.Context, a *authority, o *order) (acmez.Account, error) {
	account, err := m.account(ctx, a)
	if err == nil && account.Location != o.Account {
		p := newProblem(AccountProblem, "the order was made by an account that is not ours any more")
		p.Spent = true
		return account, p
	}
	return account, err
}
