package registry

import (
	"context"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// Overdue counts what should have been replaced by now.
type Overdue struct {
	// Lists are revocation lists of databases that should have been signed anew. More than a moment after their time,
	// no leader works, or it can't sign: the log of the leader says why.
	Lists int
	// Certificates are client certificates that end soon and are in use, and of which no successor has been seen in use.
	Certificates int
}

// Overdue returns what is overdue of some databases.
func (r *Registry) Overdue(ctx context.Context, databases []Database) (Overdue, error) {
	var all Overdue
	now := r.now()
	for i := range databases {
		db := &databases[i]
		if db.MTLS == nil || db.MTLS.Status == Deprovisioning {
			continue
		}
		for _, t := range db.Trust {
			if !r.listDue(t, now).After(now) {
				all.Lists++
			}
		}
		unreplaced, err := r.unreplaced(ctx, db, now)
		if err != nil {
			return Overdue{}, err
		}
		all.Certificates += unreplaced
	}
	return all, nil
}

// lastNotice is the longest time before the end of a certificate at which it counts as unreplaced.
const lastNotice = 14 * 24 * time.Hour

// unreplaced counts the certificates of a database that end soon, were seen in use, and whose successor was not seen after
// them. Soon is the second half of the time in which the successor is there to be installed, and two weeks at most.
// One that is to be revoked anyway does not count.
func (r *Registry) unreplaced(ctx context.Context, db *Database, now time.Time) (count int, err error) {
	var usage map[string]api.Usage
	for _, cert := range db.Certificates {
		window := min(r.lifetimes.ClientRenewBefore, cert.ExpiresAt.Sub(cert.CreatedAt)/3)
		if !cert.Usable() || !cert.DisableAt.IsZero() || now.Before(cert.ExpiresAt.Add(-min(lastNotice, window/2))) {
			continue
		}
		if usage == nil {
			if usage, err = r.usage(ctx, db.ID, Observation{}); err != nil {
				return 0, err
			}
		}
		used := usage[cert.Serial]
		if used.Sessions == 0 && used.LastSeen.IsZero() {
			continue // nobody has ever come with it
		}
		successor := db.certificate(cert.Successor)
		if successor == nil || !replaced(used, usage[successor.Serial]) {
			count++
		}
	}
	return count, nil
}

// replaced reports whether the clients of a certificate have its successor. Not to have been seen proves nothing: a client may
// come once a month. Its successor in use does.
func replaced(used, successor api.Usage) bool {
	return used.Sessions == 0 && used.LastSeen.Before(successor.LastSeen)
}
