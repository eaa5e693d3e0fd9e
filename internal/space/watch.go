package space

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"

	"pgmtls-proxy/internal/delivery"
	"pgmtls-proxy/internal/store"
)

// Change is a database as it is now, or that it is gone; then only its ID is set.
type Change struct {
	Database Database
	Deleted  bool
}

// Watch gives every database, and then each that changes, until ctx ends or the caller stops. Of several changes of
// one database in a row only the last may be seen. It survives the store being away; an error ends it.
func (r *Registry) Watch(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		known := make(map[string]bool)
		for {
			items, revision, err := r.store.List(ctx, keyDatabases)
			if err != nil {
				yield(Change{}, err)
				return
			}
			listed := make(map[string]bool, len(items))
			for _, item := range items {
				listed[item.Key] = true
				if !give(store.Event{Item: item}, yield) {
					return
				}
			}
			for key := range known {
				if !listed[key] && !give(store.Event{Item: store.Item{Key: key}, Deleted: true}, yield) {
					return
				}
			}
			known = listed
			err = r.follow(ctx, revision, known, yield)
			if !errors.Is(err, store.ErrCompacted) {
				return
			}
		}
	}
}

// follow gives the changes behind a revision. Its error is [store.ErrCompacted] when the list is to be read again;
// every other one was given.
func (r *Registry) follow(ctx context.Context, revision int64, known map[string]bool, yield func(Change, error) bool) error {
	for events, err := range r.store.Watch(ctx, keyDatabases, revision) {
		if err != nil {
			if !errors.Is(err, store.ErrCompacted) && ctx.Err() == nil {
				yield(Change{}, err)
			}
			return err
		}
		last := make(map[string]int, len(events))
		for i, event := range events {
			last[event.Key] = i
		}
		for i, event := range events {
			if last[event.Key] != i {
				continue
			}
			if event.Deleted {
				delete(known, event.Key)
			} else {
				known[event.Key] = true
			}
			if !give(event, yield) {
				return nil
			}
		}
	}
	return ctx.Err()
}

func give(event store.Event, yield func(Change, error) bool) bool {
	if event.Deleted {
		return yield(Change{Database: Database{ID: strings.TrimPrefix(event.Key, keyDatabases)}, Deleted: true}, nil)
	}
	db, err := decode[Database](event.Item)
	db.revision = event.Revision
	return yield(Change{Database: db}, err) && err == nil
}

// revision gives one of the store from which a watch misses nothing that comes after this call.
func (r *Registry) revision(ctx context.Context) (int64, error) {
	_, revision, err := r.store.List(ctx, keySpaces)
	return revision, err
}

// Question is what the daemon asks whoever delivers to a proxy.
type Question struct {
	Policy delivery.Policy `json:"policy"` // what would it do
}

// Answer is the answer.
type Answer struct {
	Effect delivery.Effect `json:"effect"`
	Error  string          `json:"error,omitempty"`
}

// Asked is a question on its way.
type Asked struct {
	ID       string    `json:"id"`
	Database string    `json:"database"` // id
	Proxy    string    `json:"proxy"`
	At       time.Time `json:"at"`
	Question
}

// askTimeout bounds the wait for an answer, and so how long a question stays in the store.
const askTimeout = 5 * time.Second

// Ask asks whoever delivers to a proxy, this daemon or another or an agent at one of them, and waits for the answer.
func (r *Registry) Ask(ctx context.Context, databaseID, proxy string, q Question) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	asked := Asked{ID: uuid.NewString(), Database: databaseID, Proxy: proxy, At: r.now(), Question: q}
	text, err := r.sealDocument(keyQuestions+asked.ID, asked)
	if err != nil {
		return Answer{}, err
	}
	tx := new(store.Tx)
	tx.Put(keyQuestions+asked.ID, text)
	revision, err := r.store.Commit(ctx, tx)
	if err != nil {
		return Answer{}, err
	}
	defer r.forget(asked.ID)
	for events, err := range r.store.Watch(ctx, keyAnswers+asked.ID, revision) {
		if err != nil {
			if ctx.Err() == nil {
				return Answer{}, err
			}
			break
		}
		for _, event := range events {
			if !event.Deleted {
				return decode[Answer](event.Item)
			}
		}
	}
	return Answer{}, refuse(Unavailable, "proxy %s did not answer within %s; is it running, and its agent connected?", proxy, askTimeout)
}

// forget removes a question and its answer.
func (r *Registry) forget(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	tx := new(store.Tx)
	tx.Delete(keyQuestions + id)
	tx.Delete(keyAnswers + id)
	if _, err := r.store.Commit(ctx, tx); err != nil {
		r.log.Warn().Err(err).Str("question", id).Msg("a question stays in the store")
	}
}

// Questions gives the questions as they come, until ctx ends or the caller stops.
func (r *Registry) Questions(ctx context.Context) iter.Seq2[Asked, error] {
	return func(yield func(Asked, error) bool) {
		revision, err := r.revision(ctx)
		if err != nil {
			yield(Asked{}, err)
			return
		}
		for events, err := range r.store.Watch(ctx, keyQuestions, revision) {
			if err != nil {
				if ctx.Err() == nil {
					yield(Asked{}, err)
				}
				return
			}
			for _, event := range events {
				if event.Deleted {
					continue
				}
				var asked Asked
				err := r.openDocument(event.Item, &asked)
				if !yield(asked, err) {
					return
				}
			}
		}
	}
}

// Reply answers a question. Nobody may be waiting any more; then nothing happens.
func (r *Registry) Reply(ctx context.Context, id string, a Answer) error {
	item, err := r.store.Get(ctx, keyQuestions+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	tx := new(store.Tx)
	tx.If(item.Key, item.Revision)
	if err := putDocument(tx, keyAnswers+id, a); err != nil {
		return err
	}
	if _, err := r.store.Commit(ctx, tx); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}
