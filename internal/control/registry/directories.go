package registry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// Two policies in one directory would take turns at letting clients in. So each directory of a daemon has a key in the
// store that names the one proxy that it belongs to, and the transaction that registers a proxy makes it, on the condition
// that it is not there: of several that ask at the same moment one gets the directory, whichever daemons they ask.

// dirOwner is the proxy that a policy directory belongs to.
type dirOwner struct {
	Database string `json:"database"` // id
	Proxy    string `json:"proxy"`
}

// dirKey is the key of a proxy's policy directory. Daemons on different machines may use the same path, so the node is part
// of it, with its slashes escaped.
func dirKey(p Proxy) string {
	return keyDirs + url.PathEscape(p.Node) + filepath.Clean(p.PolicyDir)
}

// claimDir gives the policy directory of a proxy to it, in the transaction that registers the proxy. A directory that
// another one has is refused.
//
// Without a claim of its own a release before this one may have removed the proxy that a key names. So a key counts only as
// long as its owner is there and has the directory; the transaction is conditioned on what was seen of that.
func (r *Registry) claimDir(ctx context.Context, tx *store.Tx, databaseID string, p Proxy) error {
	if !p.Local() {
		return nil
	}
	key, owner := dirKey(p), dirOwner{databaseID, p.Name}
	has, revision, err := docstore.Get[dirOwner](ctx, r.docs.Store, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && has != owner {
		other, err := r.load(ctx, has.Database)
		if err != nil && !gone(err) {
			return err
		}
		if holder := other.proxy(has.Proxy); holder != nil && holder.Local() && dirKey(*holder) == key {
			return problem.New(problem.Conflict, "policy_dir: proxy %s of database %s already uses this directory", has.Proxy, other.Name)
		}
		if has.Database != databaseID {
			tx.If(KeyDatabases+has.Database, other.revision) // 0: it is gone
		}
	}
	tx.If(key, revision)
	return docstore.Put(tx, key, owner)
}

// freeDir takes the claim of a proxy that is removed back, in the transaction that removes it.
func (r *Registry) freeDir(ctx context.Context, tx *store.Tx, databaseID string, p Proxy) error {
	if !p.Local() {
		return nil
	}
	key := dirKey(p)
	has, revision, err := docstore.Get[dirOwner](ctx, r.docs.Store, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && has != (dirOwner{databaseID, p.Name}) {
		return nil // registered by a release that made no keys
	}
	if err != nil {
		return err
	}
	tx.If(key, revision)
	tx.Delete(key)
	return nil
}

// ClaimDirs claims the policy directories of proxies that a release before this one registered, and that have no key yet.
// The daemon calls it before it answers anybody, and [Registry.Reconcile] does, for what an older daemon beside it does
// meanwhile. The error names every directory that two proxies have.
func (r *Registry) ClaimDirs(ctx context.Context) error {
	databases, err := r.Databases(ctx)
	if err != nil {
		return err
	}
	return r.claimDirs(ctx, databases)
}

func (r *Registry) claimDirs(ctx context.Context, databases []Database) error {
	claims, _, err := r.docs.List(ctx, keyDirs)
	if err != nil {
		return err
	}
	owners := make(map[string]dirOwner, len(claims))
	for _, item := range claims {
		owner, err := docstore.Decode[dirOwner](item)
		if err != nil {
			return err
		}
		owners[item.Key] = owner
	}
	var problems []error
	for _, db := range databases {
		for _, p := range db.Proxies {
			if !p.Local() || owners[dirKey(p)] == (dirOwner{db.ID, p.Name}) {
				continue
			}
			if err := r.claimLate(ctx, db.ID, p); err != nil && !gone(err) {
				problems = append(problems, fmt.Errorf("proxy %s of database %s: %w", p.Name, db.Name, err))
			}
		}
	}
	return errors.Join(problems...)
}

// claimLate claims the directory of a proxy that is registered already, unless it was removed meanwhile.
func (r *Registry) claimLate(ctx context.Context, databaseID string, p Proxy) error {
	return r.attempt(ctx, func() error {
		db, err := r.load(ctx, databaseID)
		if err != nil {
			return err
		}
		is := db.proxy(p.Name)
		if is == nil || !is.Local() {
			return nil
		}
		tx := new(store.Tx)
		tx.If(KeyDatabases+databaseID, db.revision)
		if err := r.claimDir(ctx, tx, databaseID, *is); err != nil {
			return err
		}
		_, err = r.docs.Commit(ctx, tx)
		return err
	})
}
