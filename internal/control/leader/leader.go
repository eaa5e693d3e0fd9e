// Package leader is the work that one daemon of all does: it calls [registry.Registry.Reconcile] whenever something is
// due, and wakes for what a change brings forward.
//
// Who leads is store's to say ([store.Store.Lead]), what is due and what is done is the registry's. Two leaders for a
// moment do no harm: every change is a compare-and-swap.
package leader

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/registry"
)

// Bounds between two looks at what is due.
const (
	atLeast = 200 * time.Millisecond // so that a failure is no busy loop
	atMost  = time.Minute            // so that a clock that was set is noticed
)

// Loop reconciles whenever something is due. All of its fields are needed but Now.
type Loop struct {
	Registry *registry.Registry
	Hub      *informer.Hub    // says when a change brings something forward
	Now      func() time.Time // nil: the clock
	Log      zerolog.Logger
}

// Run reconciles until ctx ends, and returns its error. Problems are logged, and tried again.
func (l Loop) Run(ctx context.Context) error {
	now := l.Now
	if now == nil {
		now = time.Now
	}
	sooner := make(chan time.Time)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		l.follow(ctx, sooner)
	}()
	defer func() { <-followed }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case at := <-sooner:
			if !at.Before(next) {
				continue
			}
			next = at
		case <-timer.C:
			var err error
			if next, err = l.Registry.Reconcile(ctx); err != nil && ctx.Err() == nil {
				l.Log.Error().Err(err).Msg("some due changes failed; trying again")
			}
		}
		timer.Reset(min(max(next.Sub(now()), atLeast), atMost))
	}
}

// follow sends the time at which each database that changes is next due, until ctx ends.
func (l Loop) follow(ctx context.Context, sooner chan<- time.Time) {
	for change := range l.Hub.FollowAll(ctx) {
		at := l.Registry.NextDue(&change.Database)
		if change.Deleted || at.IsZero() {
			continue
		}
		select {
		case sooner <- at:
		case <-ctx.Done():
		}
	}
}
