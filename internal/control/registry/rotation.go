package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// ImportedCA is an authority from outside, in PEM.
type ImportedCA struct {
	CertificatePEM []byte // its own certificate first, then what is above it
	KeyPEM         []byte
}

// CAUser is a certificate that hangs on an authority.
type CAUser struct {
	Database    string      `json:"database"` // name
	DatabaseID  string      `json:"database_id"`
	Server      bool        `json:"server"`                // the database's server certificate, not a client's
	Certificate Certificate `json:"certificate,omitzero"`  // of a client
	Sessions    int         `json:"sessions"`              // live ones, at the last report
	LastSeen    time.Time   `json:"last_seen,omitzero"`    // when it last let somebody in
	Replaced    bool        `json:"replaced"`              // its successor was seen in use, and it was not seen after that
	SuccessorAt time.Time   `json:"successor_at,omitzero"` // when the successor was made
}

// RotateCA makes a new authority for a space, which signs from now on. The old one stays trusted until it is retired;
// every client certificate of it gets a successor, and server certificates stay with it, so that clients that only
// know the old one can still verify their server.
func (r *Registry) RotateCA(ctx context.Context, by audit.Actor, space string) (Authority, error) {
	ca, err := r.makeCA(space)
	if err != nil {
		return Authority{}, err
	}
	if _, err := r.Authorities(ctx, space); err != nil {
		return Authority{}, err
	}
	return r.replaceCA(ctx, by, space, replacement{ca: ca, action: "ca.rotate"})
}

// ImportCA makes an authority from outside the one that signs, like [Registry.RotateCA]. The space need not have one. One that could
// not issue what the databases of the space need is refused with [problem.InvalidParams], and the old one stays.
func (r *Registry) ImportCA(ctx context.Context, by audit.Actor, space string, imported ImportedCA) (Authority, error) {
	if err := checkName("space", space); err != nil {
		return Authority{}, err
	}
	ca, err := authority.ParseCA(imported.CertificatePEM, imported.KeyPEM)
	if err == nil {
		err = ca.CheckValid(r.now())
	}
	if err != nil {
		return Authority{}, problem.New(problem.InvalidParams, "%s", err)
	}
	return r.replaceCA(ctx, by, space, replacement{ca: ca, external: true, action: "ca.import"})
}

type replacement struct {
	ca       *authority.CA
	external bool
	action   string
}

func (r *Registry) replaceCA(ctx context.Context, by audit.Actor, space string, with replacement) (Authority, error) {
	var active Authority
	err := r.attempt(ctx, func() error {
		list, err := r.Authorities(ctx, space)
		var none *problem.Error
		if err != nil && !errors.As(err, &none) {
			return err
		}
		tx, now := new(store.Tx), r.now()
		for i := range list {
			old := &list[i]
			if old.State != RetiredCA && old.CertificatePEM == string(with.ca.CertificatePEM()) {
				return problem.New(problem.Conflict, "space %s already has this authority: %s", space, old.ID)
			}
			if old.State == ActiveCA {
				old.State, old.UpdatedAt = RetiringCA, now
				tx.If(authorityKey(space, old.ID), old.revision)
				if err := docstore.Put(tx, authorityKey(space, old.ID), old); err != nil {
					return err
				}
			}
		}
		if err := r.tryCA(ctx, space, with.ca, list); err != nil {
			return err
		}
		a, err := r.putActive(ctx, tx, space, with.ca, with.external)
		if err != nil {
			return err
		}
		if err := r.trail.Add(tx, by, now, audit.Record{Action: with.action, Space: space, Object: a.ID, Detail: map[string]string{"subject": a.Subject}}); err != nil {
			return err
		}
		_, err = r.docs.Commit(ctx, tx)
		active = *a
		return err
	})
	if err != nil {
		return Authority{}, err
	}
	return active, r.followSpace(ctx, space)
}

// followSpace brings the databases of a space up to date with its authorities. What it leaves undone because it was
// interrupted is found by [Registry.Reconcile].
func (r *Registry) followSpace(ctx context.Context, space string) error {
	list, err := r.Databases(ctx)
	if err != nil {
		return err
	}
	for _, db := range list {
		if db.Space != space || db.MTLS == nil && !db.rulesAlone() {
			continue
		}
		if _, _, err := r.catchUp(ctx, db.ID); err != nil && !gone(err) {
			return fmt.Errorf("database %s: %w", db.Name, err)
		}
	}
	return nil
}

// gone reports whether an error means that the object was deleted meanwhile.
func gone(err error) bool {
	var refusal *problem.Error
	return errors.As(err, &refusal) && refusal.ID == problem.NotFound
}
