package store

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What one transaction may hold at most. They are below what etcd allows as it is installed, so that what works with
// the etcd inside this process works with any cluster.
const (
	MaxOperations = 128     // of conditions, and of changes
	MaxBytes      = 1 << 20 // of all keys and values together
)

// Tx is a transaction that is being put together: conditions and changes. The zero value is an empty one. It is for one
// goroutine, and for one Commit.
//
// No key may be changed twice in it, by a prefix neither; Commit gives an error then, and changes nothing.
type Tx struct {
	conditions []clientv3.Cmp
	changes    []clientv3.Op
	size       int
}

// If adds the condition that the key was last changed at the revision, as Item has it. Revision 0: that there is no
// such key.
func (t *Tx) If(key string, revision int64) *Tx {
	t.size += len(key)
	t.conditions = append(t.conditions, clientv3.Compare(clientv3.ModRevision(key), "=", revision))
	return t
}

// Put writes a value, of which the transaction keeps a copy.
func (t *Tx) Put(key string, value []byte) *Tx {
	t.size += len(key) + len(value)
	t.changes = append(t.changes, clientv3.OpPut(key, string(value)))
	return t
}

// Delete removes a key; that there is none is no error.
func (t *Tx) Delete(key string) *Tx {
	t.size += len(key)
	t.changes = append(t.changes, clientv3.OpDelete(key))
	return t
}

// DeletePrefix removes every key that starts with prefix, as they are at the commit.
func (t *Tx) DeletePrefix(prefix string) *Tx {
	t.size += len(prefix)
	t.changes = append(t.changes, clientv3.OpDelete(prefix, clientv3.WithPrefix()))
	return t
}

// Operations returns the number of changes so far, which may be [MaxOperations] at most.
func (t *Tx) Operations() int { return len(t.changes) }

// Bytes returns the size of all keys and values so far, which may be [MaxBytes] at most.
func (t *Tx) Bytes() int { return t.size }

// Commit does the whole transaction or nothing of it, and returns once it is on disk. The revision is that of everything
// that was changed.
//
// ErrConflict: a condition did not hold, and nothing was changed. ErrTooLarge: nothing was changed. After any other error
// the transaction may have been done, or may yet be: read again before you say that it was not, and never repeat one
// without conditions that fail the second time.
func (s *Store) Commit(ctx context.Context, tx *Tx) (revision int64, err error) {
	if len(tx.conditions) > MaxOperations || len(tx.changes) > MaxOperations || tx.size > MaxBytes {
		return 0, fmt.Errorf("commit: %w: %d conditions, %d changes and %d bytes; at most %d, %d and %d are allowed",
			ErrTooLarge, len(tx.conditions), len(tx.changes), tx.size, MaxOperations, MaxOperations, MaxBytes)
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return 0, s.wrap(err, "commit")
	}
	defer end()
	answer, err := s.client.Txn(ctx).If(tx.conditions...).Then(tx.changes...).Commit()
	if err == nil && !answer.Succeeded {
		err = ErrConflict
	}
	if err != nil {
		return 0, s.wrap(err, "commit")
	}
	return answer.Header.Revision, nil
}
