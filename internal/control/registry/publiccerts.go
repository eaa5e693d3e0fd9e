package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/retry"
)

// FollowPublic takes every certificate that is issued or renewed into the policies that want it, until ctx ends: it is the
// leader's work, beside [Registry.Reconcile], which finds what this has missed. Its error is that of ctx.
func (r *Registry) FollowPublic(ctx context.Context) error {
	if r.public.Manager == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	delivered := make(map[string]string) // leaf by certificate
	for ctx.Err() == nil {
		for cert, err := range r.public.Manager.Changes(ctx) {
			if err == nil && cert.Leaf != nil && cert.RemovedAt.IsZero() && delivered[cert.ID] != cert.Leaf.ID {
				if err = r.deliverEverywhere(ctx, cert); err == nil {
					delivered[cert.ID] = cert.Leaf.ID
				}
			}
			if err != nil && ctx.Err() == nil {
				r.log.Error().Err(err).Msg("a public certificate is not in its policy yet; trying again")
			}
		}
		_ = retry.Sleep(ctx, followAgain) // the loop looks at ctx
	}
	return ctx.Err()
}

// followAgain is the pause after the watch of the certificates has broken.
const followAgain = time.Second

// deliverEverywhere takes the newest leaf of a certificate into the policy of its database, or of those that share it.
func (r *Registry) deliverEverywhere(ctx context.Context, cert acme.Certificate) error {
	space, shared := strings.CutPrefix(cert.ID, spacePrefix)
	if !shared {
		if err := r.deliver(ctx, cert.ID, cert); err != nil && !gone(err) {
			return fmt.Errorf("certificate %s: %w", cert.ID, err)
		}
		return nil
	}
	databases, err := r.Databases(ctx)
	problems := []error{err}
	for _, db := range databases {
		if db.Space != space || !db.Enhanced.wanted() || db.Enhanced.Certificate != cert.ID {
			continue
		}
		if err := r.deliver(ctx, db.ID, cert); err != nil && !gone(err) {
			problems = append(problems, fmt.Errorf("database %s: %w", db.Name, err))
		}
	}
	return errors.Join(problems...)
}

// reconcilePublic compares the certificates that databases want with those that there are.
func (r *Registry) reconcilePublic(ctx context.Context, databases []Database) error {
	if r.public.Manager == nil {
		return nil
	}
	certificates, err := r.public.Manager.Certificates(ctx)
	if err != nil {
		return err
	}
	there := make(map[string]acme.Certificate, len(certificates))
	for _, cert := range certificates {
		there[cert.ID] = cert
	}
	exists := make(map[string]bool, len(databases))
	wantedBy := make(map[string][]*Database) // by certificate
	var problems []error
	for i := range databases {
		db := &databases[i]
		exists[db.ID] = true
		if !db.Enhanced.wanted() {
			continue
		}
		wantedBy[db.Enhanced.Certificate] = append(wantedBy[db.Enhanced.Certificate], db)
		if err := r.reconcileWanted(ctx, db, there); err != nil && !gone(err) {
			problems = append(problems, fmt.Errorf("database %s: %w", db.Name, err))
		}
	}
	for id, cert := range there {
		users := wantedBy[id]
		if len(users) > 0 {
			problems = append(problems, r.tellDelivered(ctx, cert, users))
			continue
		}
		purge := !strings.HasPrefix(id, spacePrefix) && !exists[id]
		if cert.RemovedAt.IsZero() || purge && !cert.Purge {
			problems = append(problems, r.public.Manager.Unwant(ctx, id, purge))
		}
	}
	return errors.Join(problems...)
}

// reconcileWanted has the certificate of a database made, or its newest leaf taken, if that was missed.
func (r *Registry) reconcileWanted(ctx context.Context, db *Database, there map[string]acme.Certificate) error {
	e := db.Enhanced
	cert, known := there[e.Certificate]
	if !known || !cert.RemovedAt.IsZero() || !covers(cert.Names, e.Names) {
		_, err := r.wantPublic(ctx, *db)
		return err
	}
	if cert.Leaf == nil || e.Leaf != nil && e.Leaf.Source == cert.Leaf.ID || !cert.Leaf.NotAfter.Add(-expiryMargin).After(r.now()) {
		return nil
	}
	return r.deliver(ctx, db.ID, cert)
}

// tellDelivered says that every proxy of every database that shares a certificate has its newest leaf, if something waits
// for that.
func (r *Registry) tellDelivered(ctx context.Context, cert acme.Certificate, users []*Database) error {
	if cert.Revoke == nil || cert.RevokeNow || cert.Leaf == nil {
		return nil
	}
	for _, db := range users {
		if e := db.Enhanced; e.Leaf == nil || e.Leaf.Source != cert.Leaf.ID || !db.allSay(AppliedWord, e.Generation) {
			return nil
		}
	}
	return r.public.Manager.Delivered(ctx, cert.ID, cert.Leaf.ID)
}

// forgetPublic gives up the certificate of a database that was deleted. What fails here, [Registry.Reconcile] does.
func (r *Registry) forgetPublic(ctx context.Context, id string) {
	if r.public.Manager == nil {
		return
	}
	if err := r.public.Manager.Unwant(ctx, id, true); err != nil {
		r.log.Warn().Err(err).Str("database", id).Msg("the public certificate of a deleted database is still kept; trying again")
	}
}

// EnhancedStatus is where the public certificate of a database is, for people.
type EnhancedStatus struct {
	Status   Status // Disabled: there is none
	Host     string
	Reason   string // what it waits for, or why it is not renewed; empty: nothing
	Detail   string
	HelpURL  string
	Since    time.Time // of the reason
	Next     time.Time // of the next attempt, or renewal
	NotAfter time.Time
	Issuer   string
	Serial   string
}

// Reasons of this package, beside those of [acme.Reason].
const (
	reasonDelivering    = "delivering"     // it is issued, and not every proxy has it
	reasonWithdrawing   = "withdrawing"    // it is disabled, and some proxy still has it
	reasonNotConfigured = "not_configured" // no authority is configured any more
)

// EnhancedNone is the status of a database without an enhanced certificate.
const EnhancedNone Status = "Disabled"

// EnhancedStatus says where the public certificate of a database is.
func (r *Registry) EnhancedStatus(ctx context.Context, db Database) (EnhancedStatus, error) {
	e := db.Enhanced
	if e == nil {
		return EnhancedStatus{Status: EnhancedNone}, nil
	}
	s := EnhancedStatus{Status: e.Status, Host: e.Host, Since: e.UpdatedAt}
	if l := e.Leaf; l != nil {
		s.NotAfter, s.Issuer, s.Serial = l.NotAfter, l.Issuer, l.Serial
	}
	switch {
	case e.Status == Deprovisioning:
		s.Reason, s.Detail = reasonWithdrawing, db.awaitedProxies(e.Generation)
		return s, nil
	case e.Status == Provisioning && e.Leaf != nil:
		s.Reason, s.Detail = reasonDelivering, db.awaitedProxies(e.Generation)
		return s, nil
	case r.public.Manager == nil:
		s.Reason, s.Detail = reasonNotConfigured, errNoPublic().Error()
		return s, nil
	}
	return s, r.addProgress(ctx, e, &s)
}

// addProgress adds what the authority's certificate waits for.
func (r *Registry) addProgress(ctx context.Context, e *Enhanced, s *EnhancedStatus) error {
	cert, err := r.public.Manager.Certificate(ctx, e.Certificate)
	if gone(err) {
		s.Reason = string(acme.Queued)
		return nil
	}
	if err != nil {
		return err
	}
	p, err := r.public.Manager.Progress(ctx, cert)
	if err != nil {
		return err
	}
	s.Next = p.NextAttempt
	switch {
	case p.Reason == acme.Issued && e.Leaf != nil:
		return nil
	case p.Reason == acme.Issued:
		s.Reason, s.Since = reasonDelivering, p.Since
		return nil
	}
	s.Reason, s.Detail, s.HelpURL, s.Since = string(p.Reason), p.Detail, p.HelpURL, p.Since
	if p.Reason == acme.Queued {
		position, err := r.position(ctx, cert)
		if err != nil {
			return err
		}
		s.Detail = joinedText(position, p.Detail)
	}
	return nil
}

func joinedText(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// awaitedProxies names the proxies that have not applied a generation.
func (db *Database) awaitedProxies(generation int64) string {
	if len(db.Proxies) == 0 {
		return "the database has no proxy that could serve it"
	}
	var names []string
	for _, p := range db.Proxies {
		if p.Acknowledged.Applied < generation {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "waiting for " + firstFive(names)
}

// positions is the line of certificates that wait for an order, as of a moment. Reading all of them for each who asks would
// cost more the longer the line is.
type positions struct {
	mu   sync.Mutex
	at   time.Time
	line []waiter
}

type waiter struct {
	id    string
	since time.Time
}

// positionsFor is how long the line is taken to be as it was read.
const positionsFor = 2 * time.Second

// position says how many certificates have waited longer. Spaces take turns, so it may come sooner.
func (r *Registry) position(ctx context.Context, cert acme.Certificate) (string, error) {
	r.positions.mu.Lock()
	defer r.positions.mu.Unlock()
	now := r.now()
	since, waits := cert.Waits(now)
	if !waits {
		return "", nil
	}
	if age := now.Sub(r.positions.at); age < 0 || age >= positionsFor || r.positions.at.IsZero() {
		list, err := r.public.Manager.Certificates(ctx)
		if err != nil {
			return "", err
		}
		r.positions.at, r.positions.line = now, r.positions.line[:0]
		for i := range list {
			if since, waits := list[i].Waits(now); waits {
				r.positions.line = append(r.positions.line, waiter{list[i].ID, since})
			}
		}
	}
	before := 0
	for _, w := range r.positions.line {
		if w.id != cert.ID && w.since.Before(since) {
			before++
		}
	}
	return fmt.Sprintf("position %d in the queue", before+1), nil
}
