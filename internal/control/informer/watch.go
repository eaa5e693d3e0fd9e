package informer

import (
	"context"
	"iter"
	"strings"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
)

// Change is a database as it is now, or that it is gone; then only its ID is set.
type Change struct {
	Database registry.Database
	Deleted  bool
	listed   bool // no database: all that there are have been given
}

// watch yields every database, says that this was the list, and then yields each that changes, until ctx ends or the caller
// stops. Of several changes of one database in a row only the last may be seen. It survives the store being away. An
// error ends it, [store.ErrCompacted] among them: then the caller begins again with the list.
func watch(ctx context.Context, docs *docstore.Docs) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		items, revision, err := docs.List(ctx, registry.KeyDatabases)
		if err != nil {
			yield(Change{}, err)
			return
		}
		for _, item := range items {
			if !yieldEvent(store.Event{Item: item}, yield) {
				return
			}
		}
		if !yield(Change{listed: true}, nil) {
			return
		}
		for events, err := range docs.Watch(ctx, registry.KeyDatabases, revision) {
			if err != nil {
				yield(Change{}, err)
				return
			}
			last := make(map[string]int, len(events))
			for i, event := range events {
				last[event.Key] = i
			}
			for i, event := range events {
				if last[event.Key] == i && !yieldEvent(event, yield) {
					return
				}
			}
		}
	}
}

// yieldEvent yields a change of the store.
func yieldEvent(event store.Event, yield func(Change, error) bool) bool {
	if event.Deleted {
		return yield(Change{Database: registry.Database{ID: strings.TrimPrefix(event.Key, registry.KeyDatabases)}, Deleted: true}, nil)
	}
	db, err := docstore.Decode[registry.Database](event.Item)
	return yield(Change{Database: db}, err) && err == nil
}
