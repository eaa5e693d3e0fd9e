package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Reseal seals every private key in the store under the first master key that is not sealed under it yet, and says how
// many those were. The control plane's own is access's to seal.
func (r *Registry) Reseal(ctx context.Context) (sealed int, err error) {
	for _, kind := range []struct {
		prefix string
		again  func(store.Item) (value []byte, stale bool, err error)
	}{
		{keySigners, r.resealed},
		{keyLeaves, r.resealedLeaf},
	} {
		n, err := r.resealAll(ctx, kind.prefix, kind.again)
		sealed += n
		if err != nil {
			return sealed, fmt.Errorf("seal anew: %w", err)
		}
	}
	n, err := acme.Reseal(ctx, r.docs)
	return sealed + n, err
}

func (r *Registry) resealAll(ctx context.Context, prefix string, again func(store.Item) ([]byte, bool, error)) (sealed int, err error) {
	const page = 100
	for after := ""; ; {
		items, err := r.docs.ListRange(ctx, store.Range{Prefix: prefix, After: after, Limit: page})
		if err != nil {
			return sealed, err
		}
		for _, item := range items {
			after = item.Key
			value, stale, err := again(item)
			if err != nil {
				return sealed, err
			}
			if !stale {
				continue
			}
			tx := new(store.Tx)
			tx.If(item.Key, item.Revision)
			tx.Put(item.Key, value)
			_, err = r.docs.Commit(ctx, tx)
			if errors.Is(err, store.ErrConflict) {
				continue // it was deleted, or another leader did it
			}
			if err != nil {
				return sealed, err
			}
			sealed++
		}
		if len(items) < page {
			return sealed, nil
		}
	}
}

func (r *Registry) resealed(item store.Item) (value []byte, stale bool, err error) {
	if !r.docs.Ring.Stale(item.Value) {
		return nil, false, nil
	}
	plain, err := r.docs.Ring.Open(item.Key, item.Value)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", item.Key, err)
	}
	defer clear(plain)
	return r.docs.Ring.Seal(item.Key, plain), true, nil
}

func (r *Registry) resealedLeaf(item store.Item) (value []byte, stale bool, err error) {
	record, err := docstore.Decode[leafRecord](item)
	if err != nil || record.Key == nil {
		return nil, false, err
	}
	key, stale, err := r.resealed(store.Item{Key: item.Key, Value: record.Key})
	if err != nil || !stale {
		return nil, false, err
	}
	record.Key = key
	value, err = json.Marshal(record)
	return value, true, err
}
