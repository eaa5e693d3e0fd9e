package registry

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/docstore"
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
	if err := r.pruneRevoked(ctx, now, authorities); err != nil {
		return fmt.Errorf("drop old records of revoked certificates: %w", err)
	}
	sealed, err := r.Reseal(ctx)
	if err != nil {
		return err
	}
	if sealed > 0 {
		r.log.Info().Int("keys", sealed).Msg("private keys are sealed under the first master key; the other keys can be removed")
	}
	r.pruned = now
	return nil
}

// pruneCRLs keeps of each authority the lists of an older release from the oldest that a policy names. Of one that was
// retired it waits a moment: a change that read the authorities before the retirement may name a list of it.
func (r *Registry) pruneCRLs(ctx context.Context, now time.Time, databases []Database, authorities map[string][]Authority) error {
	below := make(map[string]int64) // number below which nothing is kept, by authority
	for _, list := range authorities {
		for _, a := range list {
			if a.State != RetiredCA || now.After(a.UpdatedAt.Add(pruneEvery)) {
				below[a.ID] = math.MaxInt64
			}
		}
	}
	for _, db := range databases {
		for _, t := range db.Trust {
			if limit, ok := below[t.CA]; !t.Own && (!ok || t.CRL < limit) {
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

// pruneRevoked drops the records of what was revoked once every certificate of a record ended long ago, or their authority
// was retired. It keeps those of authorities that it does not know.
func (r *Registry) pruneRevoked(ctx context.Context, now time.Time, authorities map[string][]Authority) error {
	retired := make(map[string]bool)
	for _, list := range authorities {
		for _, a := range list {
			retired[a.ID] = a.State == RetiredCA && now.After(a.UpdatedAt.Add(pruneEvery))
		}
	}
	items, _, err := r.docs.List(ctx, keyRevoked)
	if err != nil {
		return err
	}
	const page = 100 // deletes in one transaction
	tx, old := new(store.Tx), 0
	for _, item := range items {
		entries, err := docstore.Decode[[]Revoked](item)
		if err != nil {
			return err
		}
		ca, _, _ := strings.Cut(strings.TrimPrefix(item.Key, keyRevoked), "/")
		if !retired[ca] && slices.ContainsFunc(entries, func(e Revoked) bool { return !e.over(now) }) {
			continue
		}
		tx.Delete(item.Key)
		if old++; old == page {
			if _, err := r.docs.Commit(ctx, tx); err != nil {
				return err
			}
			tx, old = new(store.Tx), 0
		}
	}
	if old == 0 {
		return nil
	}
	_, err = r.docs.Commit(ctx, tx)
	return err
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
