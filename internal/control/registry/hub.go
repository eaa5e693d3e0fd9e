package registry

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/store"
)

// Hub watches all databases once for many followers: a thousand agents at one daemon cost one watch of the store.
type Hub struct {
	registry *Registry
	log      zerolog.Logger

	mu        sync.Mutex
	listed    chan struct{} // closed when the first list is complete
	complete  bool
	databases map[string]Database
	followers map[string]map[*follower]bool // by database
	all       map[*follower]bool
}

// follower is told which databases have changed since it last looked.
type follower struct {
	wake    chan struct{}   // holds one
	changed map[string]bool // ids
}

// NewHub makes a hub. Nothing is known before [Hub.Run].
func NewHub(r *Registry, log zerolog.Logger) *Hub {
	return &Hub{registry: r, log: log, listed: make(chan struct{}), databases: make(map[string]Database),
		followers: make(map[string]map[*follower]bool), all: make(map[*follower]bool)}
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
		h.log.Warn().Err(err).Msg("watching the databases was interrupted; trying again")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// watch takes the list of databases and what changes after it, until that ends.
func (h *Hub) watch(ctx context.Context) error {
	listed := make(map[string]bool)
	for change, err := range h.registry.Watch(ctx) {
		switch {
		case err != nil:
			return err
		case change.Listed:
			h.dropUnlisted(listed)
			listed = nil
			continue
		case listed != nil:
			listed[change.Database.ID] = true
		}
		h.take(change)
	}
	return nil
}

// take keeps a database as it is now, and wakes whoever follows it.
func (h *Hub) take(change Change) {
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

func (h *Hub) wake(id string) {
	for f := range h.followers[id] {
		f.tell(id)
	}
	for f := range h.all {
		f.tell(id)
	}
}

func (f *follower) tell(id string) {
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

// Follow gives one database as it is, and then each time that it has changed, until ctx ends or the caller stops. Of
// several changes in a row only the last may be seen.
func (h *Hub) Follow(ctx context.Context, databaseID string) iter.Seq[Change] {
	return h.follow(ctx, databaseID)
}

// FollowAll does the same for all databases.
func (h *Hub) FollowAll(ctx context.Context) iter.Seq[Change] { return h.follow(ctx, "") }

func (h *Hub) follow(ctx context.Context, databaseID string) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		select {
		case <-h.listed:
		case <-ctx.Done():
			return
		}
		f := h.join(databaseID)
		defer h.leave(f, databaseID)
		for {
			for _, change := range h.news(f) {
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
func (h *Hub) join(databaseID string) *follower {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &follower{wake: make(chan struct{}, 1), changed: make(map[string]bool)}
	if databaseID != "" {
		if h.followers[databaseID] == nil {
			h.followers[databaseID] = make(map[*follower]bool)
		}
		h.followers[databaseID][f] = true
		f.changed[databaseID] = true
		return f
	}
	h.all[f] = true
	for id := range h.databases {
		f.changed[id] = true
	}
	return f
}

func (h *Hub) leave(f *follower, databaseID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, f)
	delete(h.followers[databaseID], f)
	if len(h.followers[databaseID]) == 0 {
		delete(h.followers, databaseID)
	}
}

// news gives what has changed since the follower last asked.
func (h *Hub) news(f *follower) []Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := make([]Change, 0, len(f.changed))
	for id := range f.changed {
		db, there := h.databases[id]
		if !there {
			db = Database{ID: id}
		}
		changes = append(changes, Change{Database: db, Deleted: !there})
	}
	clear(f.changed)
	return changes
}
