package registry

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/retry"
)

// Keys of the store, each with its "/" at the end.
const (
	KeyDatabases   = "databases/"   // <id>: [Database]
	keyNames       = "names/"       // <name of a database>: its id
	keySpaces      = "spaces/"      // <name>: spaceRecord
	keyAuthorities = "authorities/" // <space>/<id>: Authority
	keySigners     = "signers/"     // <id of an authority>: its key, sealed
	keyCRLs        = "crls/"        // <id of an authority>/<number>: list of the whole space, of an older release; PEM
	keyRevoked     = "revoked/"     // <id of an authority>/<id of a database>/<generation>: []Revoked; never changed
	keyLists       = "lists/"       // <id of a database>/<id of an authority>/<number>: its list, DER; never changed
	keyLeaves      = "leaves/"      // <id of a certificate>: leafRecord; never changed
	keyDirs        = "policy-dirs/" // <node>/<directory>: dirOwner
	keyUsage       = "usage/"       // <database>/<proxy>: which certificates it saw
)

// Options make a [Registry].
type Options struct {
	Docs      *docstore.Docs
	Audit     *audit.Trail     // of the same store
	Outbox    *outbox.Outbox   // likewise: where notices go
	Now       func() time.Time // nil: the clock
	Log       zerolog.Logger
	Lifetimes Lifetimes
	AuditKeep time.Duration // zero: 400 days

	// Ask asks proxies for their present reports, such as [proxyquery.Queries.Reports]. Nil: no proxy can be asked.
	Ask func(context.Context, []proxyquery.Proxy) map[proxyquery.Proxy]proxyquery.Reported

	Public Public // the zero value: databases get no certificates of public authorities
}

// Lifetimes say how long certificates are good for. Zero values are those of [DefaultLifetimes].
type Lifetimes struct {
	ClientMonths      int           // of a client certificate, in calendar months
	ClientRenewBefore time.Duration // its end, when a successor is made
	Server            time.Duration // of a database's server certificate
	ServerRenewBefore time.Duration
	CRL               time.Duration // from thisUpdate to nextUpdate; signed anew at half of it
	CAYears           int
}

// DefaultLifetimes are those of Heroku's client certificates, and our own for what its users do not see.
var DefaultLifetimes = Lifetimes{
	ClientMonths:      13,
	ClientRenewBefore: 75 * 24 * time.Hour,
	Server:            90 * 24 * time.Hour,
	ServerRenewBefore: 30 * 24 * time.Hour,
	CRL:               30 * 24 * time.Hour,
	CAYears:           10,
}

func (l Lifetimes) orDefaults() Lifetimes {
	d := DefaultLifetimes
	if l.ClientMonths > 0 {
		d.ClientMonths = l.ClientMonths
	}
	if l.CAYears > 0 {
		d.CAYears = l.CAYears
	}
	for _, pair := range []struct{ from, into *time.Duration }{
		{&l.ClientRenewBefore, &d.ClientRenewBefore},
		{&l.Server, &d.Server},
		{&l.ServerRenewBefore, &d.ServerRenewBefore},
		{&l.CRL, &d.CRL},
	} {
		if *pair.from > 0 {
			*pair.into = *pair.from
		}
	}
	return d
}

// Registry is the one that changes databases, rules and certificates. Its methods may be called at any time from any
// goroutine, and several registries, in one process or in several, may share a store.
type Registry struct {
	docs      *docstore.Docs
	trail     *audit.Trail
	outbox    *outbox.Outbox
	clock     func() time.Time
	log       zerolog.Logger
	lifetimes Lifetimes
	auditKeep time.Duration
	ask       func(context.Context, []proxyquery.Proxy) map[proxyquery.Proxy]proxyquery.Reported
	public    Public
	positions positions

	// turns let changes of one database wait for each other here instead of losing to each other in the store.
	turns [64]chan struct{}
	seed  maphash.Seed

	reading chan struct{} // held by the one who reads all that a space has revoked

	pruneMu sync.Mutex
	pruned  time.Time // when old things were last dropped
}

// New makes a registry. It does nothing by itself: see [Registry.Reconcile] for what must be called.
func New(o Options) *Registry {
	r := &Registry{
		docs: o.Docs, trail: o.Audit, outbox: o.Outbox, clock: o.Now, log: o.Log,
		lifetimes: o.Lifetimes.orDefaults(), auditKeep: o.AuditKeep, ask: o.Ask, public: o.Public,
		seed: maphash.MakeSeed(), reading: make(chan struct{}, 1),
	}
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.auditKeep == 0 {
		r.auditKeep = 400 * 24 * time.Hour
	}
	for i := range r.turns {
		r.turns[i] = make(chan struct{}, 1)
	}
	return r
}

// now is the time, as it is written into documents.
func (r *Registry) now() time.Time { return r.clock().UTC().Truncate(time.Microsecond) }

// change is one transaction on one database's document. A function that is given one may be called again, with a
// fresh one, when another change was faster.
type change struct {
	*Registry
	ctx context.Context
	by  audit.Actor
	now time.Time
	db  *Database
	tx  *store.Tx

	before      int64 // generation
	authorities []*Authority
	loaded      bool // authorities are
	signers     map[string]*authority.CA
	revoking    map[string][]Revoked       // by authority
	signed      map[string]bool            // authorities whose list this change has signed, or tried to
	unsigned    error                      // why a list that is due was not signed
	records     int                        // of the audit trail, so far
	adds        bool                       // something to the document, for which there must be room
	settled     map[string][]settledObject // by action
	more        bool                       // could settle, and did not fit into the transaction
}

// newChange begins a change of a document.
func newChange(db *Database) *change {
	return &change{db: db, tx: new(store.Tx), before: db.Generation,
		signers: make(map[string]*authority.CA), signed: make(map[string]bool), settled: make(map[string][]settledObject)}
}

// maxAttempts bounds how often a change is tried again because another one was faster.
const maxAttempts = 24

// change changes a database's document by one transaction, and settles what that already makes true: in that transaction, or as
// far as it does not fit, in others after it.
func (r *Registry) change(ctx context.Context, by audit.Actor, nameOrID string, f func(*change) error) (Database, error) {
	changed, more, err := r.changeOnce(ctx, by, nameOrID, f)
	for more && err == nil {
		var next Database
		next, more, err = r.changeOnce(ctx, audit.System, changed.ID, func(*change) error { return nil })
		if err != nil { // the change itself is done
			r.log.Warn().Err(err).Str("database", changed.Name).Msg("can't yet settle all that the proxies have acknowledged; trying again")
			return changed, nil
		}
		changed = next
	}
	return changed, err
}

// changeOnce is change for one transaction. More reports that there is more to settle.
func (r *Registry) changeOnce(ctx context.Context, by audit.Actor, nameOrID string, f func(*change) error) (changed Database, more bool, err error) {
	id, err := r.databaseID(ctx, nameOrID)
	if err != nil {
		return Database{}, false, err
	}
	done, err := r.turn(ctx, id)
	if err != nil {
		return Database{}, false, err
	}
	defer done()
	err = r.attempt(ctx, func() error {
		db, err := r.load(ctx, id)
		if err != nil {
			return err
		}
		c := newChange(&db)
		c.Registry, c.ctx, c.by, c.now = r, ctx, by, r.now()
		if err := f(c); err != nil {
			return err
		}
		c.advance()
		if err := c.advanceEnhanced(); err != nil {
			return err
		}
		if err := c.checkPolicy(); err != nil {
			return err
		}
		if err := c.auditSettled(); err != nil {
			return err
		}
		c.db.UpdatedAt = c.now
		c.tx.If(KeyDatabases+id, db.revision)
		rest := c.tx.Bytes()
		if err := docstore.Put(c.tx, KeyDatabases+id, db); err != nil {
			return err
		}
		if err := c.roomToDelete(c.tx.Bytes() - rest); err != nil {
			return err
		}
		db.revision, err = r.docs.Commit(ctx, c.tx)
		if errors.Is(err, store.ErrTooLarge) {
			return problem.New(problem.Conflict, "the change is too large; database %s has too many revoked certificates: rotate and retire the authority of space %s, so that its successor starts with an empty list", db.Name, db.Space)
		}
		if err != nil {
			return err
		}
		changed, more = db, c.more
		return nil
	})
	if errors.Is(err, errUnchanged) {
		changed, err = r.load(ctx, id)
		return changed, false, err
	}
	return changed, more, err
}

// errUnchanged ends a change that has nothing to change.
var errUnchanged = errors.New("nothing to change")

// turn waits until no other change of the same database is under way here.
func (r *Registry) turn(ctx context.Context, id string) (done func(), err error) {
	turn := r.turns[maphash.String(r.seed, id)%uint64(len(r.turns))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// attempt calls f again as long as another change was faster.
func (r *Registry) attempt(ctx context.Context, f func() error) error {
	for n := range maxAttempts {
		err := f()
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if retry.Sleep(ctx, time.Duration(1+rand.IntN(1+4*n))*time.Millisecond) != nil {
			return ctx.Err()
		}
	}
	return problem.New(problem.Unavailable, "too many changes at the same time; try again")
}

// newPolicy counts the policy that this change makes, once, and gives its generation.
func (c *change) newPolicy() int64 {
	c.db.Generation = max(c.db.Generation, c.before+1)
	return c.db.Generation
}

// load reads a database's document.
func (r *Registry) load(ctx context.Context, id string) (Database, error) {
	db, revision, err := docstore.Get[Database](ctx, r.docs.Store, KeyDatabases+id)
	if errors.Is(err, store.ErrNotFound) {
		return Database{}, noDatabase(id)
	}
	db.revision = revision
	return db, err
}

func noDatabase(nameOrID string) error {
	return problem.New(problem.NotFound, "there is no database %s", problem.Quote(nameOrID))
}

// databaseID finds a database by its name or its id.
func (r *Registry) databaseID(ctx context.Context, nameOrID string) (string, error) {
	if isID(nameOrID) {
		return nameOrID, nil
	}
	if !namePattern.MatchString(nameOrID) {
		return "", noDatabase(nameOrID)
	}
	item, err := r.docs.Get(ctx, keyNames+nameOrID)
	if errors.Is(err, store.ErrNotFound) {
		return "", noDatabase(nameOrID)
	}
	return string(item.Value), err
}

// isID reports whether a text is an id as [newID] makes them.
func isID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

func newID() string { return uuid.NewString() }

// audit records what this change does to an object of its database.
func (c *change) audit(action, object string, detail map[string]string) error {
	return c.auditAs(c.by, action, object, detail)
}

// auditAs is audit for what somebody else did.
func (c *change) auditAs(by audit.Actor, action, object string, detail map[string]string) error {
	c.records++
	return c.trail.Add(c.tx, by, c.now, audit.Record{Action: action, Database: c.db.ID, Space: c.db.Space, Object: object, Detail: detail})
}
