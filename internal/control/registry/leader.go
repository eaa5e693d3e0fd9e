package registry

import (
	"context"
	"time"
)

// Patience bounds between two looks of [Registry.RunReconciler] at what is due.
const (
	keepAtLeast = 200 * time.Millisecond // so that a failure is no busy loop
	keepAtMost  = time.Minute            // so that a clock that was set is noticed
)

// RunReconciler calls [Registry.Reconcile] whenever something is due, until ctx ends: it is the work of the leader. The hub says when
// a change brings something forward. Problems are logged, and tried again.
func (r *Registry) RunReconciler(ctx context.Context, hub *Hub) error {
	sooner := make(chan time.Time)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		for change := range hub.FollowAll(ctx) {
			at := r.dueAt(&change.Database, nil)
			if change.Deleted || at.IsZero() {
				continue
			}
			select {
			case sooner <- at:
			case <-ctx.Done():
			}
		}
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
			if next, err = r.Reconcile(ctx); err != nil && ctx.Err() == nil {
				r.log.Error().Err(err).Msg("not everything that is due could be done; it is tried again")
			}
		}
		timer.Reset(min(max(next.Sub(r.clock()), keepAtLeast), keepAtMost))
	}
}

// SendNotices calls tell for each notice until it was told, and does so until ctx ends. Pointless says of an error that
// another try would not help.
func (r *Registry) SendNotices(ctx context.Context, tell func(context.Context, Notice) (pointless bool, err error)) error {
	for {
		notices, err := r.Notices(ctx)
		for _, n := range notices {
			pointless, problem := tell(ctx, n)
			if ctx.Err() != nil {
				break
			}
			if problem != nil {
				r.log.Warn().Err(problem).Str("notice", n.ID).Str("kind", string(n.Kind)).Bool("given_up", pointless).Msg("a notice was not sent")
			}
			if err = r.MarkSent(ctx, n, problem, pointless); err != nil {
				break
			}
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error().Err(err).Msg("notices can't be read or written")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Second):
		}
	}
}
