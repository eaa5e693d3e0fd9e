// Package docstore keeps JSON documents in the store, and seals those that hold secrets. It knows no document: which
// keys there are, and what stands under them, is its callers' to say.
//
// It stands above store and seal, and below everything of the control plane that keeps state.
package docstore

import (
	"context"
	"encoding/json"
	"fmt"

	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
)

// Docs is a store with the ring of master keys that its secrets are sealed under. Both are safe for use by several
// goroutines.
type Docs struct {
	*store.Store
	Ring *seal.Ring
}

// Get reads the document under a key, with the revision that a [store.Tx] can be conditioned on. Without one the error
// is [store.ErrNotFound].
func Get[T any](ctx context.Context, s *store.Store, key string) (document T, revision int64, err error) {
	item, err := s.Get(ctx, key)
	if err != nil {
		return document, 0, err
	}
	document, err = Decode[T](item)
	return document, item.Revision, err
}

// Decode reads the document of an item.
func Decode[T any](item store.Item) (document T, err error) {
	if err := json.Unmarshal(item.Value, &document); err != nil {
		return document, fmt.Errorf("read %s from the store: %w", item.Key, err)
	}
	return document, nil
}

// Put adds a document to a transaction.
func Put(tx *store.Tx, key string, document any) error {
	text, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	tx.Put(key, text)
	return nil
}

// PutSealed adds a document that holds secrets to a transaction. It is bound to its key: under another one it can't be
// opened.
func (d *Docs) PutSealed(tx *store.Tx, key string, document any) error {
	text, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	tx.Put(key, d.Ring.Seal(key, text))
	return nil
}

// Open reads what [Docs.PutSealed] wrote into the document that the pointer points to.
func (d *Docs) Open(item store.Item, document any) error {
	text, err := d.Ring.Open(item.Key, item.Value)
	if err == nil {
		err = json.Unmarshal(text, document)
	}
	if err != nil {
		return fmt.Errorf("read %s from the store: %w", item.Key, err)
	}
	return nil
}

// Revision returns a revision from which a watch misses nothing that is committed after this call.
func (d *Docs) Revision(ctx context.Context) (int64, error) {
	_, revision, err := d.List(ctx, "none/") // no key begins so; every answer has the revision
	return revision, err
}
