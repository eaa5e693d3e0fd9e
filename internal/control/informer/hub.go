// Package informer watches all databases once in each daemon, and tells whoever follows what has changed: a thousand
// agents cost one watch of the store.
//
// It reads and decides nothing: registry changes databases, and what a follower does with one is its own affair.
package informer

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/retry"
)

// Hub watches all databases once for many followers: a thousand agents at one daemon cost one watch of the store.
type Hub struct {
	docs *docstore.Docs
	log  zerolog.Logger

	mu        sync.Mutex
	listed    chan struct{} // closed when the first list is complete
	complete  bool
	databases map[string]registry.Database
	followers map[*follower]bool
}

// follower is told which databases have changed since it last looked.
type follower struct {
	wake    chan struct{}   // holds one
	changed map[string]bool // ids
}

// New returns a hub of a store. Nothing is known before [Hub.Run].
func New(docs *docstore.Docs, log zerolog.Logger) *Hub {
	return &Hub{docs: docs, log: log, listed: make(chan struct{}), databases: make(map[string]registry.Database), followers: make(map[*follower]bool)}
}

// Run watches until ctx ends. When the store is away, followers keep what they have until it is back.
func (h *Hub) Run(ctx context.Context) error {
	for {
		err := h.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrCompacted):
			continue
		}
		h.log.Warn().Err(err).Msg("the watch on databases was interrupted; trying again")
		if retry.Sleep(ctx, time.Second) != nil {
			return ctx.Err()
		}
	}
}

// watch takes the list of databases and what changes after it, until that ends.
func (h *Hub) watch(ctx context.Context) error {
	listed := make(map[string]bool)
	for change, err := range watch(ctx, h.docs) {
		switch {
		case err != nil:
			return err
		case change.listed:
			h.dropUnlisted(listed)
			listed = nil
			continue
		case listed != nil:
			listed[change.Database.ID] = true
		}
		h.update(change)
	}
	return nil
}

// update keeps a database as it is now, and wakes whoever follows it.
func (h *Hub) update(change Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := change.Database.ID
	if change.Deleted {
		delete(h.databases, id)
	} else {
		h.databases[id] = change.Database
	}
	h.wake(id)
}

// wake notifies every follower of a database. The caller holds the lock.
func (h *Hub) wake(id string) {
	for f := range h.followers {
		f.notify(id)
	}
}

func (f *follower) notify(id string) {
	f.changed[id] = true
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// dropUnlisted forgets the databases that a complete list did not have.
func (h *Hub) dropUnlisted(listed map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.databases {
		if !listed[id] {
			delete(h.databases, id)
			h.wake(id)
		}
	}
	if !h.complete {
		h.complete = true
		close(h.listed)
	}
}

// FollowAll yields every database as it is, and then each that has changed, until ctx ends or the caller stops. Of
// several changes of one database in a row only the last may be seen.
func (h *Hub) FollowAll(ctx context.Context) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		select {
		case <-h.listed:
		case <-ctx.Done():
			return
		}
		f := h.join()
		defer h.leave(f)
		for {
			for _, change := range h.changes(f) {
				if !yield(change) {
					return
				}
			}
			select {
			case <-f.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

// join adds a follower that has seen nothing yet.
func (h *Hub) join() *follower {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &follower{wake: make(chan struct{}, 1), changed: make(map[string]bool)}
	h.followers[f] = true
	for id := range h.databases {
		f.changed[id] = true
	}
	return f
}

func (h *Hub) leave(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers, f)
}

// changes returns what has changed since the follower last asked.
func (h *Hub) changes(f *follower) []Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := make([]Change, 0, len(f.changed))
	for id := range f.changed {
		db, there := h.databases[id]
		if !there {
			db = registry.Database{ID: id}
		}
		changes = append(changes, Change{Database: db, Deleted: !there})
	}
	clear(f.changed)
	return changes
}
