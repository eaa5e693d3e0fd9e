package session

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// tidiness decides when memory is worth tidying up. The opening of a session leaves some kilobytes of garbage, which waits
// until the heap has doubled: after a burst of openings that is never, if the sessions then rest. And the runtime gives back
// what a crowd leaves behind over minutes.
//
// So it is due once many sessions have opened since the last collection, whoever asked for that, and none is about to; and
// once half of them or more have gone. A busy proxy, whose runtime collects by itself, hardly ever gets there.
type tidiness struct {
	due    chan struct{}
	cycles func() uint64 // collections so far

	mu        sync.Mutex
	unopened  int // connections that are no session yet
	live      int // sessions
	opened    int // sessions since the last collection
	most      int // sessions at once since memory was given back
	collected uint64
}

// tidyAfter is how many sessions have opened, or gone, at least, when tidying up is worth its price, which is in proportion to
// the live ones: so it is also a quarter of these.
const tidyAfter = 500

func newTidiness(cycles func() uint64) *tidiness {
	return &tidiness{due: make(chan struct{}, 1), cycles: cycles}
}

// accepted counts a connection.
func (t *tidiness) accepted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unopened++
}

// begun records that a connection has become a session.
func (t *tidiness) begun() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unopened--
	t.live++
	t.opened++
	t.most = max(t.most, t.live)
	t.burst()
}

// gone records that a connection is over, and whether it was a session.
func (t *tidiness) gone(session bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !session {
		t.unopened--
		t.burst()
		return
	}
	t.live--
	if t.most-t.live >= max(tidyAfter, t.live) {
		t.request()
	}
}

// burst asks if a burst of openings is over. Called with mu held.
func (t *tidiness) burst() {
	if t.unopened > 0 || t.opened < max(tidyAfter, t.live/4) {
		return
	}
	if now := t.cycles(); now != t.collected {
		t.collected, t.opened = now, 0
		return
	}
	t.request()
}

// request is called with mu held.
func (t *tidiness) request() {
	t.opened, t.most = 0, t.live
	select {
	case t.due <- struct{}{}:
	default:
	}
}

// tidied records that it has been done.
func (t *tidiness) tidied() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.collected, t.opened = t.cycles(), 0
}

// Tidy collects garbage and gives memory back to the system after bursts of openings and of ends, until the context is done.
// It returns the context's cause. Without it, the runtime does so in its own time.
func (s *Server) Tidy(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.tidiness.due:
			s.table.shrink()
			debug.FreeOSMemory()
			s.tidiness.tidied()
		}
	}
}

// collections is how often the runtime has collected garbage.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
