package registry

import (
	"context"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/store"
)

// pruneEvery is how often old things are looked for.
const pruneEvery = time.Hour

// prune drops audit records that are too old, and revocation lists that no policy names any more. It also seals anew
// what is not sealed under the first master key, so that the others can be given up.
func (r *Registry) prune(ctx context.Context, now time.Time, databases []Database) error {
	r.pruneMu.Lock()
	defer r.pruneMu.Unlock()
	if now.Before(r.pruned.Add(pruneEvery)) {
		return nil
	}
	if err := r.trail.Prune(ctx, now.Add(-r.auditKeep)); err != nil {
		return fmt.Errorf("drop old audit records: %w", err)
	}
	if err := r.pruneCRLs(ctx, databases); err != nil {
		return fmt.Errorf("drop old revocation lists: %w", err)
	}
	sealed, err := r.Reseal(ctx)
	if err != nil {
		return err
	}
	if sealed > 0 {
		r.log.Info().Int("keys", sealed).Msg("private keys were sealed under the first master key; the others may go")
	}
	r.pruned = now
	return nil
}

// pruneCRLs keeps of each authority the lists from the oldest that a policy names.
func (r *Registry) pruneCRLs(ctx context.Context, databases []Database) error {
	named := make(map[string]int64)
	for _, db := range databases {
		for _, t := range db.Trust {
			if oldest, ok := named[t.CA]; !ok || t.CRL < oldest {
				named[t.CA] = t.CRL
			}
		}
	}
	for ca, oldest := range named {
		items, err := r.docs.ListRange(ctx, store.Range{Prefix: keyCRLs + ca + "/", Limit: 100})
		if err != nil {
			return err
		}
		tx, old := new(store.Tx), 0
		for _, item := range items {
			if item.Key < crlKey(ca, oldest) {
				tx.Delete(item.Key)
				old++
			}
		}
		if old == 0 {
			continue
		}
		if _, err := r.docs.Commit(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}
