package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/store"
)

// auditTime is the time of the next record: at, or just behind the last one, so that what happens here keeps its order.
func (r *Registry) auditTime(at time.Time) time.Time {
	for {
		last := r.audited.Load()
		next := max(at.UnixNano(), last+1)
		if r.audited.CompareAndSwap(last, next) {
			return time.Unix(0, next).UTC()
		}
	}
}

// record adds a line of the audit trail to a transaction.
func (r *Registry) record(tx *store.Tx, by Actor, at time.Time, record Record) error {
	at = r.auditTime(at)
	var random [4]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	record.ID = fmt.Sprintf("%020d-%s", at.UnixNano(), hex.EncodeToString(random[:]))
	record.At = at
	record.Actor, record.Address, record.RequestID = by.Name, by.Address, by.RequestID
	return putDocument(tx, keyAudit+record.ID, record)
}

// audit records what this change does to an object of its database.
func (c *change) audit(action, object string, detail map[string]string) error {
	return c.auditAs(c.by, action, object, detail)
}

// auditAs is audit for what somebody else did.
func (c *change) auditAs(by Actor, action, object string, detail map[string]string) error {
	c.records++
	return c.record(c.tx, by, c.now, Record{Action: action, Database: c.db.ID, Space: c.db.Space, Object: object, Detail: detail})
}

// Note records something that is not the registry's, such as a new token. The record's id and time are set here.
func (r *Registry) Note(ctx context.Context, by Actor, record Record) error {
	tx := new(store.Tx)
	if err := r.record(tx, by, r.now(), record); err != nil {
		return err
	}
	_, err := r.store.Commit(ctx, tx)
	return err
}

// AuditQuery selects records. Empty fields select all.
type AuditQuery struct {
	Database string // id
	Actor    string
	Action   string // as written, or the beginning up to a dot: "ip_rule."
	Before   string // id of a record: older ones
	Limit    int    // 0: 100; at most 1000
}

func (q AuditQuery) wants(record Record) bool {
	return (q.Database == "" || q.Database == record.Database) &&
		(q.Actor == "" || q.Actor == record.Actor) &&
		(q.Action == "" || q.Action == record.Action || strings.HasSuffix(q.Action, ".") && strings.HasPrefix(record.Action, q.Action))
}

// Audit gives records, the newest first.
func (r *Registry) Audit(ctx context.Context, q AuditQuery) ([]Record, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, 1000)
	if q.Before != "" && !goodRecordID(q.Before) {
		return nil, newError(InvalidParams, "%s is no id of an audit record", shown(q.Before))
	}
	records := []Record{}
	const page = 500
	after := ""
	if q.Before != "" {
		after = keyAudit + q.Before
	}
	for {
		items, err := r.store.ListRange(ctx, store.Range{Prefix: keyAudit, After: after, Limit: page, Descending: true})
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			record, err := decode[Record](item)
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

func goodRecordID(id string) bool {
	return len(id) == 29 && id[20] == '-' && strings.Trim(id, "0123456789abcdef-") == ""
}

// Events gives records as they come, until ctx ends or the caller stops. With after, the id of a record, those that
// came behind it are given first. Records of changes that were made at the same time may come in another order than
// that of their ids.
func (r *Registry) Events(ctx context.Context, after string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if after != "" && !goodRecordID(after) {
			yield(Record{}, newError(InvalidParams, "%s is no id of an event", shown(after)))
			return
		}
		revision, err := r.revision(ctx)
		from := ""
		if after != "" {
			from = keyAudit + after
		}
		for err == nil && from != "" {
			var items []store.Item
			items, err = r.store.ListRange(ctx, store.Range{Prefix: keyAudit, After: from, Limit: 500})
			for _, item := range items {
				from = item.Key
				if item.Revision > revision {
					continue // the watch has it
				}
				record, err := decode[Record](item)
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
		for events, err := range r.store.Watch(ctx, keyAudit, revision) {
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
				record, err := decode[Record](event.Item)
				if !yield(record, err) || err != nil {
					return
				}
			}
		}
	}
}
