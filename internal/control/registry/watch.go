package registry

import (
	"context"
	"iter"
	"strings"

	"pgmtls-proxy/internal/control/store"
)

// Change is a database as it is now, or that it is gone; then only its ID is set.
type Change struct {
	Database Database
	Deleted  bool
	Listed   bool // no database: all that there are have been given
}

// Watch gives every database, says that this was the list, and then gives each that changes, until ctx ends or the caller
// stops. Of several changes of one database in a row only the last may be seen. It survives the store being away. An
// error ends it, [store.ErrCompacted] among them: then the caller begins again with the list.
func (r *Registry) Watch(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		items, revision, err := r.store.List(ctx, keyDatabases)
		if err != nil {
			yield(Change{}, err)
			return
		}
		for _, item := range items {
			if !give(store.Event{Item: item}, yield) {
				return
			}
		}
		if !yield(Change{Listed: true}, nil) {
			return
		}
		for events, err := range r.store.Watch(ctx, keyDatabases, revision) {
			if err != nil {
				yield(Change{}, err)
				return
			}
			last := make(map[string]int, len(events))
			for i, event := range events {
				last[event.Key] = i
			}
			for i, event := range events {
				if last[event.Key] == i && !give(event, yield) {
					return
				}
			}
		}
	}
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
