package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	delivered := r.delivered(ctx) // leaf by certificate
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

// delivered returns the leaves that are in policies already, by certificate, so that a new leader reads none of those. What is
// wrong in it for one of several databases that share a certificate, [Registry.Reconcile] finds.
func (r *Registry) delivered(ctx context.Context) map[string]string {
	leaves := make(map[string]string)
	databases, err := r.Databases(ctx)
	if err != nil {
		r.log.Warn().Err(err).Msg("which public certificates are in policies can't be read; looking at each")
	}
	for _, db := range databases {
		if e := db.Enhanced; e.wanted() && e.Leaf != nil {
			leaves[e.Certificate] = e.Leaf.Source
		}
	}
	return leaves
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
		if !db.Enhanced.wanted() || db.Enhanced.uploaded() {
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
			problems = append(problems, r.notifyDelivered(ctx, cert, users))
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

// notifyDelivered records that every proxy of every database that shares a certificate has its newest leaf, if something waits
// for that.
func (r *Registry) notifyDelivered(ctx context.Context, cert acme.Certificate, users []*Database) error {
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
