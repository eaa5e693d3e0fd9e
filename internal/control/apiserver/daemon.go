package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/store"
)

// health remembers the last look at the store. Anybody may ask, and asking often must cost nothing.
type health struct {
	mu   sync.Mutex
	at   time.Time
	err  error
	room error // why nothing new is taken in
}

const (
	healthFor  = time.Second     // how long a look counts
	healthTime = 3 * time.Second // for one
)

// healthy returns why the store can't be read or written, or nil.
func (s *Server) healthy(ctx context.Context) error {
	err, _ := s.checkStore(ctx)
	return err
}

// checkStore returns why the store can't be read or written, and why it takes in nothing new.
func (s *Server) checkStore(ctx context.Context) (err, room error) {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	if now := s.now(); now.Sub(s.health.at) >= healthFor || s.health.at.IsZero() {
		// Others wait for this look too: it must not end with this client.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTime)
		defer cancel()
		s.health.err = s.store.Health(ctx)
		s.health.room = s.store.Room(ctx)
		s.health.at = now
	}
	return s.health.err, s.health.room
}

func getHealth(c *call) error {
	if err := c.server.healthy(c.ctx()); err != nil {
		return c.unhealthy(err)
	}
	return c.answer(http.StatusOK, api.Health{Status: "ok", LogLinesDropped: int64(c.server.lost())})
}

// unhealthy answers that the store does not work. That it is full is no secret; the rest is for the log.
func (c *call) unhealthy(err error) error {
	c.w.internalErr = err
	if errors.Is(err, store.ErrFull) {
		return failure(err)
	}
	return &api.Error{ID: api.Unavailable, Message: "the store of this daemon is not working; see the daemon's log"}
}

func getVersion(c *call) error {
	return c.answer(http.StatusOK, api.Version(c.server.built))
}

func getOpenAPI(c *call) error {
	c.w.Header().Set("Content-Type", "application/yaml")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(api.OpenAPI) // a client that is gone can't be told
	return nil
}

func showMetrics(handler http.Handler) func(*call) error {
	return func(c *call) error {
		handler.ServeHTTP(c.w, c.r)
		return nil
	}
}

// saveSnapshot sends the store, one at a time: it is read as a whole. An answer that is cut off is no snapshot, and
// restoring one says so.
func saveSnapshot(c *call) error {
	select {
	case c.server.saving <- struct{}{}:
		defer func() { <-c.server.saving }()
	default:
		return &api.Error{ID: api.RateLimit, Message: "another snapshot is in progress; try again when it is done"}
	}
	if err := c.server.healthy(c.ctx()); err != nil {
		return c.unhealthy(err)
	}
	if err := c.auditFirst(audit.Record{Action: "snapshot.save"}); err != nil {
		return err
	}
	ctx, release := c.server.access.Hold(c.ctx(), c.caller)
	defer release()
	out, err := newStream(c, "application/octet-stream")
	if err != nil {
		return nil // nobody waits any more
	}
	defer out.close()
	if err := c.server.store.SaveSnapshot(ctx, out); err != nil {
		return fmt.Errorf("send the snapshot: %w", err)
	}
	return out.flush()
}

// compactStore gives the store's unused space back. It works while nothing else can be written.
func compactStore(c *call) error {
	if err := c.server.store.Compact(c.ctx()); err != nil {
		return notEmbedded(err)
	}
	return c.done()
}

// disarmStore lets a store that has reached its quota take writes again.
func disarmStore(c *call) error {
	if err := c.server.store.Disarm(c.ctx()); err != nil {
		return notEmbedded(err)
	}
	c.audit(audit.Record{Action: "store.disarm"})
	return c.done()
}

func notEmbedded(err error) error {
	if errors.Is(err, store.ErrNotEmbedded) {
		return &api.Error{ID: api.Conflict, Message: store.ErrNotEmbedded.Error()}
	}
	return err
}
