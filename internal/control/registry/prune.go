package registry

import (
	"context"
	"fmt"
	"math"
	"time"

	"pgmtls-proxy/internal/control/store"
)

// pruneEvery is how often old things are looked for.
const pruneEvery = time.Hour

// prune drops audit records that are too old, and revocation lists that no policy names any more. It also seals anew
// what is not sealed under the first master key, so that the others can be given up.
func (r *Registry) prune(ctx context.Context, now time.Time, databases []Database, authorities map[string][]Authority) error {
	r.pruneMu.Lock()
	defer r.pruneMu.Unlock()
	if now.Before(r.pruned.Add(pruneEvery)) && !now.Before(r.pruned) {
		return nil
	}
	if err := r.trail.Prune(ctx, now.Add(-r.auditKeep)); err != nil {
		return fmt.Errorf("drop old audit records: %w", err)
	}
	if err := r.pruneCRLs(ctx, now, databases, authorities); err != nil {
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

// pruneCRLs keeps of each authority the lists from the oldest that a policy names. Of one that was retired, and that no
// policy names any more, it keeps none. A change that read the authorities before the retirement may name a list of it for a
// moment, so that moment is let pass.
func (r *Registry) pruneCRLs(ctx context.Context, now time.Time, databases []Database, authorities map[string][]Authority) error {
	below := make(map[string]int64) // number below which nothing is kept, by authority
	for _, list := range authorities {
		for _, a := range list {
			if a.State == RetiredCA && now.After(a.UpdatedAt.Add(pruneEvery)) {
				below[a.ID] = math.MaxInt64
			}
		}
	}
	for _, db := range databases {
		for _, t := range db.Trust {
			if limit, ok := below[t.CA]; !ok || t.CRL < limit {
				below[t.CA] = t.CRL
			}
		}
	}
	for ca, limit := range below {
		if err := r.dropCRLs(ctx, ca, limit); err != nil {
			return err
		}
	}
	return nil
}

// dropCRLs deletes the lists of an authority with numbers below a limit.
func (r *Registry) dropCRLs(ctx context.Context, ca string, limit int64) error {
	const page = 100 // deletes in one transaction
	for {
		items, err := r.docs.ListRange(ctx, store.Range{Prefix: keyCRLs + ca + "/", Limit: page})
		if err != nil {
			return err
		}
		tx, old := new(store.Tx), 0
		for _, item := range items {
			if item.Key < crlKey(ca, limit) {
				tx.Delete(item.Key)
				old++
			}
		}
		if old == 0 {
			return nil
		}
		if _, err := r.docs.Commit(ctx, tx); err != nil || old < page {
			return err
		}
	}
}
