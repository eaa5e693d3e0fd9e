package store

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// guard answers the requests to an etcd inside this process also when that has failed: its goroutines then stand still
// with their locks, and no context ends waiting for those.
type guard struct {
	clientv3.KV
	store *Store
}

// Get implements [clientv3.KV].
func (g *guard) Get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return guarded(g.store, func() (*clientv3.GetResponse, error) { return g.KV.Get(ctx, key, options...) })
}

// Txn implements [clientv3.KV].
func (g *guard) Txn(ctx context.Context) clientv3.Txn { return &guardedTxn{g.KV.Txn(ctx), g.store} }

// guardedTxn is a transaction behind a guard.
type guardedTxn struct {
	clientv3.Txn
	store *Store
}

func (t *guardedTxn) If(conditions ...clientv3.Cmp) clientv3.Txn {
	t.Txn = t.Txn.If(conditions...)
	return t
}

func (t *guardedTxn) Then(operations ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Then(operations...)
	return t
}

func (t *guardedTxn) Else(operations ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Else(operations...)
	return t
}

func (t *guardedTxn) Commit() (*clientv3.TxnResponse, error) { return guarded(t.store, t.Txn.Commit) }

// guarded waits for an answer, or for the failure of the store; then its goroutine ends with the process.
func guarded[T any](s *Store, request func() (T, error)) (T, error) {
	type result struct {
		answer T
		err    error
	}
	results := make(chan result, 1)
	go func() {
		answer, err := request()
		results <- result{answer, err}
	}()
	select {
	case result := <-results:
		return result.answer, result.err
	case <-s.failed:
		var none T
		return none, s.failure
	}
}
