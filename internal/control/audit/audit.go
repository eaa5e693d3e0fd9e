// Package audit is the trail of what was changed, by whom and from where: records in the store, listed and followed.
//
// A record is added to the transaction that it tells of, so there is none without the change, and no change without
// its record. It decides nothing, and knows no tokens: who asks is given to it as an [Actor].
package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// Actor is who asks for a change. It goes into the audit trail.
type Actor struct {
	Name      string // the token's name, "agent:…", or "system"
	Address   string // empty: not from the network
	RequestID string
}

// System is the daemon itself, when something is due.
var System = Actor{Name: "system"}

// Record is one line of the audit trail, and one event of the stream.
type Record struct {
	ID        string            `json:"id"` // sorts by time
	At        time.Time         `json:"at"`
	Actor     string            `json:"actor"`
	Address   string            `json:"address,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
	Action    string            `json:"action"` // such as ip_rule.create, certificate.disabled
	Database  string            `json:"database,omitempty"`
	Space     string            `json:"space,omitempty"`
	Object    string            `json:"object,omitempty"` // id of what was changed
	Detail    map[string]string `json:"detail,omitempty"` // never a secret
}

// keys of the store begin with this; a record's id follows.
const keyAudit = "audit/"

// Trail is the audit trail in the store. Its methods may be called from any goroutine. A process should have one: it keeps
// the records of one process in the order in which they were made.
type Trail struct {
	docs *docstore.Docs
	now  func() time.Time
	last atomic.Int64 // time of the last record, in nanoseconds
}

// New returns the trail in a store. Without now it has the clock's time.
func New(docs *docstore.Docs, now func() time.Time) *Trail {
	if now == nil {
		now = time.Now
	}
	return &Trail{docs: docs, now: now}
}

// next returns the time of the next record: at, or just behind the last one.
func (t *Trail) next(at time.Time) time.Time {
	for {
		last := t.last.Load()
		next := max(at.UnixNano(), last+1)
		if t.last.CompareAndSwap(last, next) {
			return time.Unix(0, next).UTC()
		}
	}
}

// Add adds a record to the transaction that makes it true. Its id and its time, which is at or just after it, are set
// here.
func (t *Trail) Add(tx *store.Tx, by Actor, at time.Time, record Record) error {
	at = t.next(at)
	var random [4]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	record.ID = fmt.Sprintf("%020d-%s", at.UnixNano(), hex.EncodeToString(random[:]))
	record.At = at
	record.Actor, record.Address, record.RequestID = by.Name, by.Address, by.RequestID
	return docstore.Put(tx, keyAudit+record.ID, record)
}

// Note records, in a transaction of its own, something that was done already.
func (t *Trail) Note(ctx context.Context, by Actor, record Record) error {
	tx := new(store.Tx)
	if err := t.Add(tx, by, t.now(), record); err != nil {
		return err
	}
	_, err := t.docs.Commit(ctx, tx)
	return err
}

// Query selects records. Empty fields select all.
type Query struct {
	Database string // id
	Actor    string
	Action   string // as written, or the beginning up to a dot: "ip_rule."
	Before   string // id of a record: older ones
	Limit    int    // 0: 100; at most 1000
}

// wants reports whether the query selects a record.
func (q Query) wants(record Record) bool {
	return (q.Database == "" || q.Database == record.Database) &&
		(q.Actor == "" || q.Actor == record.Actor) &&
		(q.Action == "" || q.Action == record.Action || strings.HasSuffix(q.Action, ".") && strings.HasPrefix(record.Action, q.Action))
}

// List returns records, the newest first.
func (t *Trail) List(ctx context.Context, q Query) ([]Record, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, 1000)
	if q.Before != "" && !goodID(q.Before) {
		return nil, problem.New(problem.InvalidParams, "%s is not the id of an audit record", problem.Quote(q.Before))
	}
	records := []Record{}
	const page = 500
	after := ""
	if q.Before != "" {
		after = keyAudit + q.Before
	}
	for {
		items, err := t.docs.ListRange(ctx, store.Range{Prefix: keyAudit, After: after, Limit: page, Descending: true})
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			record, err := docstore.Decode[Record](item)
			if err != nil {
				return nil, err
			}
			if q.wants(record) {
				records = append(records, record)
			}
			if len(records) == q.Limit {
				return records, nil
			}
			after = item.Key
		}
		if len(items) < page {
			return records, nil
		}
	}
}

func goodID(id string) bool {
	return len(id) == 29 && id[20] == '-' && strings.Trim(id, "0123456789abcdef-") == ""
}

// Events yields records as they come, until ctx ends or the caller stops. With after, the id of a record, those that
// came behind it are given first. Records of changes that were made at the same time may come in another order than
// that of their ids.
func (t *Trail) Events(ctx context.Context, after string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if after != "" && !goodID(after) {
			yield(Record{}, problem.New(problem.InvalidParams, "%s is not the id of an event", problem.Quote(after)))
			return
		}
		revision, err := t.docs.Revision(ctx)
		from := ""
		if after != "" {
			from = keyAudit + after
		}
		for err == nil && from != "" {
			var items []store.Item
			items, err = t.docs.ListRange(ctx, store.Range{Prefix: keyAudit, After: from, Limit: 500})
			for _, item := range items {
				from = item.Key
				if item.Revision > revision {
					continue // the watch has it
				}
				record, err := docstore.Decode[Record](item)
				if !yield(record, err) || err != nil {
					return
				}
			}
			if len(items) < 500 {
				break
			}
		}
		if err != nil {
			yield(Record{}, err)
			return
		}
		for events, err := range t.docs.Watch(ctx, keyAudit, revision) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					yield(Record{}, err)
				}
				return
			}
			for _, event := range events {
				if event.Deleted {
					continue
				}
				record, err := docstore.Decode[Record](event.Item)
				if !yield(record, err) || err != nil {
					return
				}
			}
		}
	}
}

// Prune deletes the records that are older than a time, in as many transactions as that takes.
func (t *Trail) Prune(ctx context.Context, before time.Time) error {
	const page = 100 // deletes in one transaction; etcd takes 128
	limit := fmt.Sprintf("%020d", before.UnixNano())
	for {
		items, err := t.docs.ListRange(ctx, store.Range{Prefix: keyAudit, Limit: page})
		if err != nil {
			return err
		}
		tx, old := new(store.Tx), 0
		for _, item := range items {
			if strings.TrimPrefix(item.Key, keyAudit) < limit {
				tx.Delete(item.Key)
				old++
			}
		}
		if old == 0 {
			return nil
		}
		if _, err := t.docs.Commit(ctx, tx); err != nil {
			return err
		}
		if old < page {
			return nil
		}
	}
}
