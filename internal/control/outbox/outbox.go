// Package outbox keeps what people are still to be told. A notice is put into the transaction that makes it true, and
// stays in the store until it was sent, or given up.
//
// It does not know how people are told: notify sends mail and calls webhooks, and cmd/pgmtls puts the two together.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/safetext"
)

// Kind specifies what a notice is about.
type Kind string

// The kinds of notices.
const (
	CertificateSuccessor Kind = "certificate.successor" // a client certificate ends, and its successor is there
	CAExpiring           Kind = "ca.expiring"           // an authority ends; rotate it
	PolicyOvertaken      Kind = "policy.overtaken"      // a proxy has had a newer policy than the store: it was restored
	ProxyClock           Kind = "proxy.clock"           // a proxy's clock is wrong, or the control plane's
	StoreSpace           Kind = "store.space"           // the store's space gets short

	ConnectionChanged Kind = "connection.changed"                   // clients are to connect by another URL
	EnhancedFailing   Kind = "enhanced_certificate.renewal_failing" // a public certificate is not renewed, and ends
	EnhancedEnding    Kind = "enhanced_certificate.ending"          // one that was uploaded ends; nobody renews it
	EnhancedExpired   Kind = "enhanced_certificate.expired"         // it has ended
	EnhancedChain     Kind = "enhanced_certificate.chain_changed"   // its successor has another issuer
	ACMEAccount       Kind = "acme.account_problem"                 // a public authority refuses our account
	ACMELimited       Kind = "acme.rate_limited"                    // it issues nothing for more than an hour
)

// Notice is something that people are to be told. What it tells of may be gone when it is sent, so it carries what is
// to be said.
type Notice struct {
	ID          string       `json:"id"` // UUID
	Kind        Kind         `json:"kind"`
	At          time.Time    `json:"at"`
	Space       string       `json:"space"`
	Database    string       `json:"database,omitempty"` // name
	DatabaseID  string       `json:"database_id,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"` // that ends
	Successor   *Certificate `json:"successor,omitempty"`
	Authority   string       `json:"authority,omitempty"` // subject
	ExpiresAt   time.Time    `json:"expires_at"`

	Proxy string        `json:"proxy,omitempty"` // name; with ProxyClock and PolicyOvertaken
	Skew  time.Duration `json:"skew,omitempty"`  // how far the proxy's clock is ahead of the control plane's

	Shortage string `json:"shortage,omitempty"` // with StoreSpace: what is short, as [store.Stats.Shortage] says it

	Public *Public `json:"public,omitempty"` // of the kinds of public certificates and their authorities, and only of them

	Attempts int       `json:"attempts"`
	NextAt   time.Time `json:"next_at"` // of the next attempt
}

// Certificate is what a notice says of a client certificate.
type Certificate struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Serial    string    `json:"serial"`
	ExpiresAt time.Time `json:"expires_at"`
	OwnKey    bool      `json:"own_key,omitempty"` // the client keeps its key
}

// Public is what a notice says of a public certificate or its authority.
type Public struct {
	Host        string    `json:"host,omitempty"`
	URL         string    `json:"url,omitempty"`          // by which clients are to connect
	PreviousURL string    `json:"previous_url,omitempty"` // by which they did
	CA          string    `json:"ca,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Until       time.Time `json:"until,omitzero"` // when the authority may be asked again
}

const keyNotices = "notices/" // <id>: Notice

// Options make an [Outbox].
type Options struct {
	Docs  *docstore.Docs
	Audit *audit.Trail     // where it stands that a notice was sent
	Now   func() time.Time // nil: the clock
	Log   zerolog.Logger
}

// Outbox is the notices in the store. Its methods may be called from any goroutine.
type Outbox struct {
	docs  *docstore.Docs
	trail *audit.Trail
	clock func() time.Time
	log   zerolog.Logger
}

// New returns the outbox of a store.
func New(o Options) *Outbox {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Outbox{docs: o.Docs, trail: o.Audit, clock: o.Now, log: o.Log}
}

func (o *Outbox) now() time.Time { return o.clock().UTC().Truncate(time.Microsecond) }

// Add adds a notice to the transaction that makes it true. Its id is set here.
func (o *Outbox) Add(tx *store.Tx, n Notice) error {
	n.ID, n.NextAt = uuid.NewString(), n.At
	return docstore.Put(tx, keyNotices+n.ID, n)
}

// Pending returns what is to be told by now, the oldest first.
func (o *Outbox) Pending(ctx context.Context) ([]Notice, error) {
	items, _, err := o.docs.List(ctx, keyNotices)
	if err != nil {
		return nil, err
	}
	var list []Notice
	for _, item := range items {
		n, err := docstore.Decode[Notice](item)
		if err != nil {
			return nil, err
		}
		if !n.NextAt.After(o.now()) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b Notice) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// giveUpAfter is how often telling is tried: with waits that double from a minute to a day, some two weeks.
const giveUpAfter = 24

// MarkSent records how telling a notice went. Without an error it was told; with one it is tried again later, unless that
// is pointless.
func (o *Outbox) MarkSent(ctx context.Context, n Notice, failure error, pointless bool) error {
	key := keyNotices + n.ID
	tx, now := new(store.Tx), o.now()
	n.Attempts++
	action, detail := "notice.sent", map[string]string{"kind": string(n.Kind)}
	switch {
	case failure == nil:
		tx.Delete(key)
	case pointless || n.Attempts >= giveUpAfter:
		action, detail["error"] = "notice.given_up", safetext.Truncate(failure.Error(), 500)
		tx.Delete(key)
	default:
		n.NextAt = now.Add(min(time.Minute<<(n.Attempts-1), 24*time.Hour))
		if err := docstore.Put(tx, key, n); err != nil {
			return err
		}
		_, err := o.docs.Commit(ctx, tx)
		return err
	}
	record := audit.Record{Action: action, Space: n.Space, Database: n.DatabaseID, Object: n.ID, Detail: detail}
	if err := o.trail.Add(tx, audit.System, now, record); err != nil {
		return errors.Join(failure, err)
	}
	_, err := o.docs.Commit(ctx, tx)
	return err
}

// sendEvery is how often the outbox is looked through.
const sendEvery = 10 * time.Second

// Run calls tell for each notice until it was told, and does so until ctx ends. Pointless says of an error that another
// try would not help. Problems are logged, and tried again.
func (o *Outbox) Run(ctx context.Context, tell func(context.Context, Notice) (pointless bool, err error)) error {
	for {
		notices, err := o.Pending(ctx)
		for _, n := range notices {
			pointless, failure := tell(ctx, n)
			if ctx.Err() != nil {
				break
			}
			if failure != nil {
				o.log.Warn().Err(failure).Str("notice", n.ID).Str("kind", string(n.Kind)).Bool("given_up", pointless).Msg("can't send a notice")
			}
			if err = o.MarkSent(ctx, n, failure, pointless); err != nil {
				break
			}
		}
		if err != nil && ctx.Err() == nil {
			o.log.Error().Err(err).Msg("can't read or write notices")
		}
		if retry.Sleep(ctx, sendEvery) != nil {
			return ctx.Err()
		}
	}
}
