package acme

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// CA is a certificate authority.
type CA struct {
	Name      string // ours for it, in records
	Directory string // URL, https
	Profile   string // of certificates; empty: the authority's own choice
	Contact   string // a mail address; empty: none
	EAB       *EAB   // external account binding, where the authority asks for it

	// AfterFailures is how many failures in a row of one certificate have the next authority tried; 0 is 3.
	AfterFailures int

	NewOrders    Limit // of the account
	Certificates Limit // of one registered domain; renewals are not counted

	Transport http.RoundTripper // for requests to it; nil: that of the options
}

// EAB binds an account to one that was made in another way (RFC 8555, section 7.3.4).
type EAB struct {
	KeyID  string
	MACKey string // base64url
}

// String leaves the key out.
func (e *EAB) String() string { return e.KeyID }

// Options of a [Manager].
type Options struct {
	Docs *docstore.Docs

	CAs []CA // tried in this order; at least one

	// Solver makes the records of dns-01. Nil: names are proved by dns-persist-01, with records that people make.
	Solver Solver
	// Resolver looks up CAA records, aliases and addresses.
	Resolver Resolver
	// Check are the servers that must have a challenge's record before the authority looks, host and port. None: those
	// that the public DNS names for its zone.
	Check []string

	// PreferredRoot is the SHA-256 of a root, in hexadecimal, for authorities that offer chains to several; Roots are
	// those it may be among, nil the system's.
	PreferredRoot string
	Roots         *x509.CertPool

	// Record adds to a transaction what else should be kept of an event, such as an audit record or a notice. It may be
	// nil.
	Record func(*store.Tx, Event) error
	// Count is called after the commit of an order that was begun, has failed, or has brought a leaf. It may be nil.
	Count func(Event)

	// Transport is for requests to authorities; nil: http.DefaultTransport.
	Transport http.RoundTripper
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log zerolog.Logger
}

// Event is something that happened to a certificate, or at an authority.
type Event struct {
	Kind        EventKind
	At          time.Time
	Certificate Certificate // empty: it is the authority's
	CA          string
	Account     string   // URL; of events of the account
	Problem     *Problem // of a failure, of a limit, or of what the authority refused

	Took time.Duration // from the order to the leaf; of one that brought a leaf
}

// EventKind specifies what happened.
type EventKind string

// The kinds of events.
const (
	EventOrdered EventKind = "order"  // an order is about to be made
	EventIssued  EventKind = "issue"  // the first leaf
	EventRenewed EventKind = "renew"  // another leaf
	EventFailed  EventKind = "fail"   // an order failed, or was not made because it would
	EventRemoved EventKind = "remove" // the certificate is gone with its key

	EventRevoked EventKind = "revoke"          // a leaf was revoked at its authority
	EventChain   EventKind = "chain_changed"   // the new leaf has another issuer than the one before
	EventFailing EventKind = "renewal_failing" // a renewal is overdue, and the end is near: see Certificate.Warned
	EventExpired EventKind = "expire"          // the leaf has ended

	EventAccount  EventKind = "account"         // the account was made
	EventRefused  EventKind = "account_problem" // the account was refused, or is not known any more; told once in a row
	EventRollover EventKind = "rollover"        // the account has another key
	EventLimited  EventKind = "rate_limited"    // the authority asks for nothing in more than an hour; told once in a row
)

// Manager gets, keeps and renews public certificates. Its methods may be called from any goroutine, and on any daemon;
// [Manager.Run] is for the leader.
type Manager struct {
	docs    *docstore.Docs
	options Options
	now     func() time.Time
	log     zerolog.Logger
	method  string

	authorities []*authority // in the order of Options.CAs
}

// authority is one CA with what the leader knows of it.
type authority struct {
	CA
	client   *client
	budget   *budgetOf
	accounts accountLock
}

// New makes a manager. It asks nobody anything.
func New(options Options) (*Manager, error) {
	if len(options.CAs) == 0 {
		return nil, errors.New("no certificate authority is given")
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Transport == nil {
		options.Transport = http.DefaultTransport
	}
	m := &Manager{docs: options.Docs, options: options, log: options.Log, method: methodPersist,
		now: func() time.Time { return options.Now().UTC().Truncate(time.Millisecond) }}
	if options.Solver != nil {
		m.method = methodDNS
	}
	for _, ca := range options.CAs {
		if ca.AfterFailures == 0 {
			ca.AfterFailures = 3
		}
		a := &authority{CA: ca, client: newClient(ca, cmp.Or(ca.Transport, options.Transport), m.now), accounts: make(accountLock, 1)}
		a.budget = &budgetOf{m: m, ca: &a.CA}
		m.authorities = append(m.authorities, a)
	}
	return m, nil
}

// Want is a certificate that somebody wants.
type Want struct {
	ID    string // the same for the same thing; an id that is not wanted any more may be wanted again
	Space string
	Names []string // DNS names, at most 25; a wildcard only as the whole first label
}

// maxNames is how many names Let's Encrypt puts into a certificate.
const maxNames = 25

// check refuses names that no authority issues for.
func (w Want) check() error {
	if w.ID == "" || strings.Contains(w.ID, "/") {
		return problem.New(problem.InvalidParams, "certificate id %s is not possible", problem.Quote(w.ID))
	}
	if len(w.Names) == 0 || len(w.Names) > maxNames {
		return problem.New(problem.InvalidParams, "%d names are not possible; use 1 to %d", len(w.Names), maxNames)
	}
	for _, name := range w.Names {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	return nil
}

// Want has a certificate made, and renewed from then on. Asked again with the same names, it changes nothing; with
// other names, a certificate with those replaces the one that there is. One that was not wanted for a few days is there
// again with its leaf, without an order.
func (m *Manager) Want(ctx context.Context, want Want) (Certificate, error) {
	for i, name := range want.Names {
		want.Names[i] = strings.ToLower(strings.TrimSuffix(name, "."))
	}
	if err := want.check(); err != nil {
		return Certificate{}, err
	}
	return m.change(ctx, want.ID, func(cert *Certificate, now time.Time) (changed bool, err error) {
		if cert.ID == "" {
			*cert = Certificate{ID: want.ID, CreatedAt: now, Reason: Queued, Since: now}
			changed = true
		}
		if cert.Purge {
			return false, problem.New(problem.Conflict, "certificate %s is being removed; try again", want.ID)
		}
		if !cert.RemovedAt.IsZero() {
			cert.RemovedAt, changed = time.Time{}, true
		}
		if !slices.Equal(cert.Names, want.Names) || cert.Space != want.Space {
			cert.Names, cert.Space, changed = want.Names, want.Space, true
			cert.Failures, cert.Tried, cert.NotBefore, cert.CA = 0, 0, time.Time{}, ""
		}
		if changed && (cert.Leaf == nil || !covers(cert.Leaf.Names, cert.Names)) {
			cert.Reason, cert.Detail, cert.HelpURL, cert.Since = Queued, "", "", now
		}
		return changed, nil
	})
}

// Unwant has a certificate not renewed any more. Its leaf is kept for a week; with purge all of it is gone as soon as an
// order that is under way has been cleaned up.
func (m *Manager) Unwant(ctx context.Context, id string, purge bool) error {
	_, err := m.change(ctx, id, func(cert *Certificate, now time.Time) (bool, error) {
		if cert.ID == "" || !cert.RemovedAt.IsZero() && cert.Purge == purge {
			return false, nil
		}
		if cert.RemovedAt.IsZero() {
			cert.RemovedAt = now
		}
		cert.Purge = cert.Purge || purge
		return true, nil
	})
	return err
}

// Renew has a certificate renewed now, whatever failed before. With compromised, the leaf that it has is revoked once
// [Manager.Delivered] says that its successor is everywhere.
func (m *Manager) Renew(ctx context.Context, id string, compromised bool) error {
	_, err := m.change(ctx, id, func(cert *Certificate, now time.Time) (bool, error) {
		if cert.ID == "" || !cert.RemovedAt.IsZero() {
			return false, noCertificate(id)
		}
		if cert.RenewNow && cert.NotBefore.IsZero() && (cert.Compromised || !compromised) {
			return false, nil
		}
		cert.RenewNow, cert.Compromised, cert.NotBefore = true, cert.Compromised || compromised, time.Time{}
		return true, nil
	})
	return err
}

// Delivered records that every proxy has the leaf. What it has replaced may be revoked then, if it has to be.
func (m *Manager) Delivered(ctx context.Context, id, leaf string) error {
	_, err := m.change(ctx, id, func(cert *Certificate, now time.Time) (bool, error) {
		if cert.Revoke == nil || cert.RevokeNow || cert.Leaf == nil || cert.Leaf.ID != leaf {
			return false, nil
		}
		cert.RevokeNow = true
		return true, nil
	})
	return err
}

// change reads a certificate, has it changed, and writes it, again as long as somebody else was faster. A certificate
// without an id is one that does not exist.
func (m *Manager) change(ctx context.Context, id string, f func(cert *Certificate, now time.Time) (changed bool, err error)) (Certificate, error) {
	for range 20 {
		cert, err := m.certificate(ctx, id)
		if err != nil {
			return Certificate{}, err
		}
		if cert == nil {
			cert = new(Certificate)
		}
		now := m.now()
		changed, err := f(cert, now)
		if err != nil || !changed {
			return *cert, err
		}
		cert.UpdatedAt = now
		tx := new(store.Tx)
		if err := put(tx, keyCertificates+id, cert.revision, cert); err != nil {
			return Certificate{}, err
		}
		revision, err := m.docs.Commit(ctx, tx)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		cert.revision = revision
		return *cert, err
	}
	return Certificate{}, problem.New(problem.Unavailable, "too many changes at the same time; try again")
}

// Certificate returns a certificate as it is. Without one of the id the error is of the kind problem.NotFound.
func (m *Manager) Certificate(ctx context.Context, id string) (Certificate, error) {
	cert, err := m.certificate(ctx, id)
	if err == nil && cert == nil {
		err = noCertificate(id)
	}
	if err != nil {
		return Certificate{}, err
	}
	return *cert, nil
}

func noCertificate(id string) error {
	return problem.New(problem.NotFound, "there is no public certificate %s", problem.Quote(id))
}

// LeafFiles returns chain and key of a leaf, both in PEM.
func (m *Manager) LeafFiles(ctx context.Context, id string) (chainPEM, keyPEM []byte, err error) {
	record, _, err := docstore.Get[leafRecord](ctx, m.docs.Store, keyLeaves+id)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = m.docs.Ring.Open(keyLeaves+id, record.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("open the key of public certificate %s: %w", id, err)
	}
	return []byte(record.Chain), keyPEM, nil
}

// authority finds one by its name; nil: it is not configured any more.
func (m *Manager) authority(name string) *authority {
	for _, a := range m.authorities {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// covers reports whether all names are among those of a leaf.
func covers(leaf, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(leaf, name) })
}

// CheckName refuses what can't be a name in a public certificate.
func CheckName(name string) error {
	plain, _ := strings.CutPrefix(name, "*.")
	labels := strings.Split(plain, ".")
	if len(plain) > 253 || len(labels) < 2 {
		return problem.New(problem.InvalidParams, "%s is no name that a public authority issues for; use a full host name of at most 253 bytes, as in db.example.com", problem.Quote(name))
	}
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return problem.New(problem.InvalidParams, "%s is no host name; use labels of lower-case letters, digits and dashes, each at most 63 bytes (names in other scripts as xn--…)", problem.Quote(name))
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return problem.New(problem.InvalidParams, "%s is an address, not a name; public authorities prove names", problem.Quote(name))
	}
	return nil
}
