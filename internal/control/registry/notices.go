package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"pgmtls-proxy/internal/control/store"
)

// NoticeKind says what a notice tells.
type NoticeKind string

const (
	CertificateSuccessor NoticeKind = "certificate.successor" // a client certificate ends, and its successor is there
	CAExpiring           NoticeKind = "ca.expiring"           // an authority ends; rotate it
)

// Notice is something that people are to be told. It waits in the store until it was told, or given up.
type Notice struct {
	ID          string       `json:"id"`
	Kind        NoticeKind   `json:"kind"`
	At          time.Time    `json:"at"`
	Space       string       `json:"space"`
	Database    string       `json:"database,omitempty"` // name
	DatabaseID  string       `json:"database_id,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"` // that ends
	Successor   *Certificate `json:"successor,omitempty"`
	Authority   string       `json:"authority,omitempty"` // subject
	ExpiresAt   time.Time    `json:"expires_at"`

	Attempts int       `json:"attempts"`
	NextAt   time.Time `json:"next_at"`
}

// putNotice adds a notice to the transaction that makes it true.
func (r *Registry) putNotice(tx *store.Tx, n Notice) error {
	n.ID, n.NextAt = newID(), n.At
	return putDocument(tx, keyNotices+n.ID, n)
}

// Notices gives what is to be told by now, the oldest first.
func (r *Registry) Notices(ctx context.Context) ([]Notice, error) {
	items, _, err := r.store.List(ctx, keyNotices)
	if err != nil {
		return nil, err
	}
	var list []Notice
	for _, item := range items {
		n, err := decode[Notice](item)
		if err != nil {
			return nil, err
		}
		if !n.NextAt.After(r.now()) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b Notice) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// giveUpAfter is how often telling is tried: with waits that double from a minute to a day, some two weeks.
const giveUpAfter = 24

// MarkSent says how telling a notice went: nil, it was told; otherwise it is tried again later, unless that is pointless.
func (r *Registry) MarkSent(ctx context.Context, n Notice, problem error, pointless bool) error {
	key := keyNotices + n.ID
	tx, now := new(store.Tx), r.now()
	n.Attempts++
	action, detail := "notice.sent", map[string]string{"kind": string(n.Kind)}
	switch {
	case problem == nil:
		tx.Delete(key)
	case pointless || n.Attempts >= giveUpAfter:
		action, detail["error"] = "notice.given_up", bounded(problem.Error())
		tx.Delete(key)
	default:
		n.NextAt = now.Add(min(time.Minute<<(n.Attempts-1), 24*time.Hour))
		if err := putDocument(tx, key, n); err != nil {
			return err
		}
		_, err := r.store.Commit(ctx, tx)
		return err
	}
	record := Record{Action: action, Space: n.Space, Database: n.DatabaseID, Object: n.ID, Detail: detail}
	if err := r.record(tx, System, now, record); err != nil {
		return errors.Join(problem, err)
	}
	_, err := r.store.Commit(ctx, tx)
	return err
}
