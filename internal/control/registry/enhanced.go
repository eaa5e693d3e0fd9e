package registry

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// Enhanced is a database's certificate of a public authority, under a name of its own beside the private one.
type Enhanced struct {
	Status      Status        `json:"status"`                // Provisioning, Enabled or Deprovisioning
	Host        string        `json:"host"`                  // the public name
	Certificate string        `json:"certificate,omitempty"` // id of the authority's record; empty: somebody brought it
	Names       []string      `json:"names"`                 // of the certificate
	EnabledBy   string        `json:"enabled_by"`
	Generation  int64         `json:"generation"`          // that brought the leaf, or takes it away
	Leaf        *EnhancedLeaf `json:"leaf,omitempty"`      // in the policy; nil: none is
	Announced   bool          `json:"announced,omitempty"` // people were told of the public name
	CreatedAt   time.Time     `json:"created_at"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

// EnhancedLeaf is a public certificate in a policy. Its chain and its key are in the store under its id, the key sealed:
// a copy of the database's own, so that what a document names is deleted with it, and is there whatever becomes of the
// authority's record.
type EnhancedLeaf struct {
	ID        string    `json:"id"`
	Source    string    `json:"source"` // id of the leaf that it is a copy of, or the digest of one that was brought
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Told      int       `json:"told,omitempty"` // how many of endings people were told of
}

// Enabled is the status of an enhanced certificate that every proxy serves.
const Enabled Status = "Enabled"

// Public specifies how databases get certificates of public authorities.
type Public struct {
	Manager *acme.Manager // nil: they get none
	Zone    string        // below which the names are
	Names   config.ACMENames
}

// errNoPublic returns an error that names what has to be configured before an enhanced certificate can be enabled.
func errNoPublic() error {
	return problem.New(problem.Conflict, "enhanced certificates need a public certificate authority; add an acme block to pgmtls.yaml, as docs/enhanced-certificates.md shows, and restart the control plane")
}

// governed reports whether clients may come in at all: the database has mutual TLS, or lets in by its rules alone.
func (db *Database) governed() bool {
	return db.MTLS != nil && db.MTLS.Status != Deprovisioning || db.rulesAlone()
}

// rulesAlone reports whether clients come in without a certificate. That needs both, that it was asked for and that there
// is no mutual TLS: what is absent never opens the gate.
func (db *Database) rulesAlone() bool { return db.ClientAuthOff && db.MTLS == nil }

// admits refuses what needs a database that clients may come to.
func (c *change) admits() error {
	if c.db.rulesAlone() {
		return nil
	}
	return c.enabled()
}

// EnableEnhanced asks for a certificate of a public authority for a database. A database without mutual TLS lets clients
// in by its rules alone from then on; it begins with none. Asked again, it changes nothing.
func (r *Registry) EnableEnhanced(ctx context.Context, by audit.Actor, db string) (Database, error) {
	if r.public.Manager == nil {
		return Database{}, errNoPublic()
	}
	changed, err := r.change(ctx, by, db, func(c *change) error {
		c.adds = true
		if m := c.db.MTLS; m != nil && m.Status == Deprovisioning {
			return problem.New(problem.Conflict, "mutual TLS of database %s is being destroyed; try again when it is gone (pgmtls mtls status %s)", c.db.Name, c.db.Name)
		}
		wants := c.db.Enhanced.wanted()
		if wants && c.db.governed() {
			return errUnchanged
		}
		detail := map[string]string{}
		if !c.db.governed() {
			if err := c.letInByRules(); err != nil {
				return err
			}
			detail["client_auth"] = string(config.ClientAuthOff)
		}
		if !wants {
			e, err := c.newEnhanced()
			if err != nil {
				return err
			}
			c.db.Enhanced = e
		}
		detail["host"] = c.db.Enhanced.Host
		return c.audit("enhanced_certificate.enable", c.db.ID, detail)
	})
	if err != nil {
		return Database{}, err
	}
	return r.wantPublic(ctx, changed)
}

// wanted reports whether there is one, and it is not being taken away.
func (e *Enhanced) wanted() bool { return e != nil && e.Status != Deprovisioning }

// letInByRules gives a database without mutual TLS a policy that asks for no client certificate. Its IP rules decide.
func (c *change) letInByRules() error {
	if err := c.prepareServer(); err != nil {
		return err
	}
	c.db.ClientAuthOff = true
	c.newPolicy()
	return nil
}

func (c *change) newEnhanced() (*Enhanced, error) {
	host, names, certificate, err := c.public.names(c.db)
	if err != nil {
		return nil, err
	}
	return &Enhanced{Status: Provisioning, Host: host, Certificate: certificate, Names: names, EnabledBy: c.by.Name,
		CreatedAt: c.now, UpdatedAt: c.now}, nil
}

// spacePrefix begins the id of a certificate that the databases of a space share. Others have the id of their database.
const spacePrefix = "space:"

// names gives a database its public name, and the names and the id of the certificate.
func (p Public) names(db *Database) (host string, names []string, certificate string, err error) {
	certificate = db.ID
	switch p.Names {
	case config.ACMENamesDatabase:
		host = db.Name + "." + p.Zone
		names = []string{host}
	case config.ACMENamesSpace:
		host = db.Name + "." + db.Space + "." + p.Zone
		names, certificate = []string{"*." + db.Space + "." + p.Zone}, spacePrefix+db.Space
	default:
		host = opaqueLabel(db.ID) + "." + p.Zone
		names = []string{host}
	}
	if err := acme.CheckName(host); err != nil {
		return "", nil, "", err
	}
	if slices.Contains(db.Hosts, host) {
		return "", nil, "", problem.New(problem.Conflict, "%s is a name of the private certificate of database %s already, and a client could not choose between the two; set names: opaque in the acme block of pgmtls.yaml, or another zone", host, db.Name)
	}
	return host, names, certificate, nil
}

// opaqueLabel is a label that tells nothing of a database, and is always the same for it.
func opaqueLabel(id string) string {
	sum := sha256.Sum256([]byte("public host\x00" + id))
	return "db-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]))
}

// wantPublic has the certificate of a database made, and takes one that is there already into its policy.
func (r *Registry) wantPublic(ctx context.Context, db Database) (Database, error) {
	e := db.Enhanced
	if !e.wanted() || e.uploaded() {
		return db, nil
	}
	cert, err := r.public.Manager.Want(ctx, acme.Want{ID: e.Certificate, Space: db.Space, Names: slices.Clone(e.Names)})
	if err != nil {
		return Database{}, err
	}
	if e.Leaf == nil {
		if err := r.deliver(ctx, db.ID, cert); err != nil {
			return Database{}, err
		}
	}
	return r.load(ctx, db.ID)
}

// DisableEnhanced takes the public certificate of a database out of its policy. No session ends by it, and who came in
// by rules alone still does. Asked again, it changes nothing.
func (r *Registry) DisableEnhanced(ctx context.Context, by audit.Actor, db string) (Database, error) {
	changed, err := r.change(ctx, by, db, func(c *change) error {
		e := c.db.Enhanced
		if !e.wanted() {
			return errUnchanged
		}
		if e.Announced {
			if err := c.notifyConnection(c.db.privateURL(), c.db.publicURL()); err != nil {
				return err
			}
		}
		if err := c.audit("enhanced_certificate.disable", c.db.ID, map[string]string{"host": e.Host}); err != nil {
			return err
		}
		if e.Leaf == nil {
			if e.Generation == 0 || c.db.allSay(AppliedWord, e.Generation) {
				c.db.Enhanced = nil
				return nil
			}
		} else {
			c.dropLeaf()
		}
		e.Status, e.Announced, e.UpdatedAt = Deprovisioning, false, c.now
		return nil
	})
	if err != nil || r.public.Manager == nil {
		return changed, err
	}
	if changed.Enhanced.wanted() {
		return changed, nil // enabled again meanwhile
	}
	// A certificate that others share, or that this call could not give up, is the reconciler's to give up.
	if err := r.public.Manager.Unwant(ctx, changed.ID, false); err != nil {
		r.log.Warn().Err(err).Str("database", changed.Name).Msg("the public certificate is still renewed; trying again")
	}
	return changed, nil
}

// dropLeaf takes the public certificate out of the policy.
func (c *change) dropLeaf() {
	e := c.db.Enhanced
	c.tx.Delete(keyLeaves + e.Leaf.ID)
	e.Leaf, e.Generation, e.UpdatedAt = nil, c.newPolicy(), c.now
}

// RenewEnhanced has the public certificate of a database replaced now. With compromised, the old one is revoked at its
// authority once every proxy has the new one.
func (r *Registry) RenewEnhanced(ctx context.Context, by audit.Actor, nameOrID string, compromised bool) (Database, error) {
	if r.public.Manager == nil {
		return Database{}, errNoPublic()
	}
	db, err := r.Database(ctx, nameOrID)
	if err != nil {
		return Database{}, err
	}
	if !db.Enhanced.wanted() {
		return Database{}, problem.New(problem.NotFound, "database %s has no enhanced certificate; enable it first", db.Name)
	}
	if db.Enhanced.uploaded() {
		return Database{}, problem.New(problem.Conflict, "the certificate of database %s was uploaded; upload its successor (pgmtls enhanced-certificates upload %s --cert FILE --key FILE)", db.Name, db.Name)
	}
	detail := map[string]string{"host": db.Enhanced.Host, "compromised": fmt.Sprint(compromised)}
	if err := r.trail.Note(ctx, by, audit.Record{Action: "enhanced_certificate.renew", Database: db.ID, Space: db.Space, Object: db.ID, Detail: detail}); err != nil {
		return Database{}, err
	}
	return db, r.public.Manager.Renew(ctx, db.Enhanced.Certificate, compromised)
}

// expiryMargin is how long before its end a public certificate leaves the policy: some proxy's clock may be ahead, and
// one that takes a policy with a certificate that is new to it and has ended goes on without that certificate.
const expiryMargin = 2 * time.Minute

// usableUntil is when a public certificate leaves the policy.
func (l *EnhancedLeaf) usableUntil() time.Time { return l.NotAfter.Add(-expiryMargin) }

// expireEnhanced takes a public certificate that has ended out of the policy. The private one, the rules and the
// revocations go on.
func (c *change) expireEnhanced() error {
	e := c.db.Enhanced
	if e == nil || e.Leaf == nil || e.Leaf.usableUntil().After(c.now) {
		return nil
	}
	detail := map[string]string{"host": e.Host, "not_after": e.Leaf.NotAfter.Format(time.RFC3339)}
	notice := outbox.Notice{Kind: outbox.EnhancedExpired, At: c.now, Space: c.db.Space, DatabaseID: c.db.ID, Database: c.db.Name,
		ExpiresAt: e.Leaf.NotAfter, Public: &outbox.Public{Host: e.Host, Issuer: e.Leaf.Issuer}}
	c.dropLeaf()
	e.Status = Provisioning
	if e.uploaded() { // of others, the authority's record tells
		if err := c.outbox.Add(c.tx, notice); err != nil {
			return err
		}
	}
	return c.audit("enhanced_certificate.expired", c.db.ID, detail)
}

// deliver takes the newest leaf of a certificate into the policy of a database, unless it is there.
func (r *Registry) deliver(ctx context.Context, databaseID string, cert acme.Certificate) error {
	leaf := cert.Leaf
	if leaf == nil {
		return nil
	}
	chain, key, err := r.public.Manager.LeafFiles(ctx, leaf.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil // it was replaced after it was read, and that is another change of the certificate
	}
	if err != nil {
		return err
	}
	_, err = r.change(ctx, audit.System, databaseID, func(c *change) error {
		e := c.db.Enhanced
		fresh := &EnhancedLeaf{ID: newID(), Source: leaf.ID, Issuer: leaf.Issuer, Serial: leaf.Serial, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
		switch {
		case !e.wanted(), e.Certificate != cert.ID, !covers(leaf.Names, e.Names), !fresh.usableUntil().After(c.now):
			return errUnchanged
		case e.Leaf != nil && (e.Leaf.Source == leaf.ID || e.Leaf.NotBefore.After(leaf.NotBefore)):
			return errUnchanged
		case e.Leaf != nil:
			c.tx.Delete(keyLeaves + e.Leaf.ID)
		}
		e.Leaf, e.Generation, e.UpdatedAt = fresh, c.newPolicy(), c.now
		if err := c.putLeaf(fresh.ID, chain, key); err != nil {
			return err
		}
		detail := map[string]string{"host": e.Host, "serial": leaf.Serial, "issuer": leaf.Issuer, "ca": leaf.CA, "not_after": leaf.NotAfter.Format(time.RFC3339)}
		return c.audit("enhanced_certificate.deliver", c.db.ID, detail)
	})
	return err
}

// covers reports whether all names are among those of a leaf.
func covers(leaf, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(leaf, name) })
}

// advanceEnhanced moves an enhanced certificate that waits for the proxies and need not any more. Both ways wait until new
// connections follow the policy: no session depends on which certificate it was shown.
func (c *change) advanceEnhanced() error {
	e := c.db.Enhanced
	if e == nil || !c.db.allSay(AppliedWord, e.Generation) {
		return nil
	}
	switch {
	case e.Status == Deprovisioning:
		c.settled["enhanced_certificate.disabled"] = append(c.settled["enhanced_certificate.disabled"], settledObject{c.db.ID, e.Generation})
		c.db.Enhanced = nil
	case e.Status == Provisioning && e.Leaf != nil:
		e.Status, e.UpdatedAt = Enabled, c.now
		c.settled["enhanced_certificate.enabled"] = append(c.settled["enhanced_certificate.enabled"], settledObject{c.db.ID, e.Generation})
		if !e.Announced {
			e.Announced = true
			return c.notifyConnection(c.db.publicURL(), c.db.privateURL())
		}
	}
	return nil
}
