package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/problem"
)

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
	Uploaded bool // somebody brought it: nobody renews it
}

// Reasons of this package, beside those of [acme.Reason].
const (
	reasonDelivering    = "delivering"     // it is issued, and not every proxy has it
	reasonWithdrawing   = "withdrawing"    // it is disabled, and some proxy still has it
	reasonNotConfigured = "not_configured" // no authority is configured any more
	reasonEnded         = "ended"          // it was brought, and has ended
)

// EnhancedNone is the status of a database without an enhanced certificate.
const EnhancedNone Status = "Disabled"

// EnhancedStatus returns how far the public certificate of a database is.
func (r *Registry) EnhancedStatus(ctx context.Context, db Database) (EnhancedStatus, error) {
	e := db.Enhanced
	if e == nil {
		return EnhancedStatus{Status: EnhancedNone}, nil
	}
	s := EnhancedStatus{Status: e.Status, Host: e.Host, Since: e.UpdatedAt, Uploaded: e.uploaded()}
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
	case e.uploaded():
		if e.Leaf == nil {
			s.Reason, s.Detail = reasonEnded, "the certificate that was uploaded has ended; upload its successor"
		}
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

// position returns how many certificates have waited longer. Spaces take turns, so it may come sooner.
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

// NeedsClientCertificate reports whether clients of the database need a certificate.
func (db *Database) NeedsClientCertificate() bool { return !db.rulesAlone() }

// EnhancedRecords returns the DNS records that people make for the public certificate of a database, or would have to make
// if it had one.
func (r *Registry) EnhancedRecords(ctx context.Context, db Database) ([]acme.Record, error) {
	if r.public.Manager == nil {
		return nil, errNoPublic()
	}
	host, names, _, err := r.public.names(&db)
	if err != nil {
		return nil, err
	}
	if e := db.Enhanced; e.wanted() && !e.uploaded() {
		host, names = e.Host, e.Names
	}
	records, err := r.public.Manager.Records(ctx, names)
	if err != nil || slices.Contains(names, host) {
		return records, err
	}
	for i := range records {
		if records[i].Required && !records[i].Found && strings.HasPrefix(records[i].Name, "*.") {
			records[i].Purpose += ", such as " + host
		}
	}
	return records, nil
}

// PublicAuthority is what is known of a public authority.
type PublicAuthority = acme.AuthorityStatus

// PublicStatus is what is known of the public authorities together.
type PublicStatus struct {
	Authorities []PublicAuthority // none: none is configured
	Zone        string
	Waiting     acme.Waiting
	Overdue     int // certificates whose renewal is late
}

// PublicStatus tells how the public authorities are.
func (r *Registry) PublicStatus(ctx context.Context) (s PublicStatus, err error) {
	if r.public.Manager == nil {
		return s, nil
	}
	s.Zone = r.public.Zone
	if s.Authorities, err = r.public.Manager.Authorities(ctx); err != nil {
		return s, err
	}
	list, err := r.public.Manager.Certificates(ctx)
	now := r.now()
	s.Waiting = acme.CountWaiting(list, now)
	for i := range list {
		if list[i].Overdue(now) {
			s.Overdue++
		}
	}
	return s, err
}

// RollOver gives the account at a public authority another key.
func (r *Registry) RollOver(ctx context.Context, by audit.Actor, name string) (PublicAuthority, error) {
	if r.public.Manager == nil {
		return PublicAuthority{}, errNoPublic()
	}
	if _, err := r.publicAuthority(ctx, name); err != nil {
		return PublicAuthority{}, err
	}
	if err := r.trail.Note(ctx, by, audit.Record{Action: "acme.rollover", Object: name}); err != nil {
		return PublicAuthority{}, err
	}
	err := r.public.Manager.Rollover(ctx, name)
	if p, ok := errors.AsType[*acme.Problem](err); ok {
		return PublicAuthority{}, problem.New(problem.Unavailable, "the authority %s does not do it now: %s; the next order finds out whether the key was changed, and this can be asked for again", name, p.Detail)
	}
	if err != nil {
		return PublicAuthority{}, err
	}
	return r.publicAuthority(ctx, name)
}

func (r *Registry) publicAuthority(ctx context.Context, name string) (PublicAuthority, error) {
	list, err := r.public.Manager.Authorities(ctx)
	if err != nil {
		return PublicAuthority{}, err
	}
	if i := slices.IndexFunc(list, func(a PublicAuthority) bool { return a.Name == name }); i >= 0 {
		return list[i], nil
	}
	return PublicAuthority{}, problem.New(problem.NotFound, "there is no public authority %s in the acme block of pgmtls.yaml", problem.Quote(name))
}
