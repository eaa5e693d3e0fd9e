package acme

import (
	"context"
	"errors"
	"fmt"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Reseal seals every private key of this package under the first master key that is not sealed under it yet, and returns
// how many those were. It needs no manager: the keys are there whether or not an authority is configured.
func Reseal(ctx context.Context, docs *docstore.Docs) (sealed int, err error) {
	for _, prefix := range []string{keyOrderKeys, keyAccountKeys, keyLeaves} {
		n, err := resealAll(ctx, docs, prefix)
		sealed += n
		if err != nil {
			return sealed, fmt.Errorf("seal anew: %w", err)
		}
	}
	return sealed, nil
}

func resealAll(ctx context.Context, docs *docstore.Docs, prefix string) (sealed int, err error) {
	const page = 100
	for after := ""; ; {
		items, err := docs.ListRange(ctx, store.Range{Prefix: prefix, After: after, Limit: page})
		if err != nil {
			return sealed, err
		}
		for _, item := range items {
			after = item.Key
			tx := new(store.Tx)
			if stale, err := reseal(docs, tx, item, prefix == keyLeaves); err != nil || !stale {
				if err != nil {
					return sealed, err
				}
				continue
			}
			switch _, err := docs.Commit(ctx, tx); {
			case errors.Is(err, store.ErrConflict): // it was deleted, or another leader did it
			case err != nil:
				return sealed, err
			default:
				sealed++
			}
		}
		if len(items) < page {
			return sealed, nil
		}
	}
}

// reseal adds a record to the transaction, sealed anew; stale: it has to be.
func reseal(docs *docstore.Docs, tx *store.Tx, item store.Item, leaf bool) (stale bool, err error) {
	var record leafRecord
	text := item.Value
	if leaf {
		if record, err = docstore.Decode[leafRecord](item); err != nil {
			return false, err
		}
		text = record.Key
	}
	if !docs.Ring.Stale(text) {
		return false, nil
	}
	plain, err := docs.Ring.Open(item.Key, text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", item.Key, err)
	}
	defer clear(plain)
	text = docs.Ring.Seal(item.Key, plain)
	if !leaf {
		tx.If(item.Key, item.Revision).Put(item.Key, text)
		return true, nil
	}
	record.Key = text
	return true, put(tx, item.Key, item.Revision, record)
}
