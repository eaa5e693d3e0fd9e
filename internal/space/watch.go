package space

import (
	"context"
	"errors"
	"iter"
	"strings"

	"pgmtls-proxy/internal/store"
)

// Change is a database as it is now, or that it is gone; then only its ID is set.
type Change struct {
	Database Database
	Deleted  bool
	Listed   bool // no database: all that there are have been given
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
			if !yield(Change{Listed: true}, nil) {
				return
			}
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
