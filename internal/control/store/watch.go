package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pause is how long a watch or a candidate waits before it tries again, give or take a half.
const pause = 500 * time.Millisecond

// Event is one change.
type Event struct {
	Item         // as it became; of one that was deleted there is no value, and the revision is that of the deletion
	Deleted bool // there is nothing under the key any more
}

// Watch returns every change of keys that start with prefix, of revisions greater than after, in their order, each once.
// The changes of one transaction come together; those of several may. It goes on by itself after a disconnect, and
// never leaves anything out: when it can't have what it needs, it ends with ErrCompacted, also when after is a revision
// that the store does not have yet, as after the restore of an older state.
//
// It ends without an error when ctx ends, and after an error. Whoever is slow to take events keeps them waiting in
// memory.
func (s *Store) Watch(ctx context.Context, prefix string, after int64) iter.Seq2[[]Event, error] {
	return func(yield func([]Event, error) bool) {
		w := watch{store: s, prefix: prefix, after: after}
		for ctx.Err() == nil {
			if err := w.check(ctx); err == nil {
				if !w.follow(ctx, yield) {
					return
				}
			} else if ctx.Err() == nil && w.final(err) {
				yield(nil, s.wrap(err, "watch %q", prefix))
				return
			}
			wait(ctx, s.ctx)
		}
	}
}

// watch is a Watch on its way.
type watch struct {
	store  *Store
	prefix string
	after  int64 // everything up to this revision was given
}

// check asks for the revision of the store. etcd would wait for one that is not there yet, and not say so.
func (w *watch) check(ctx context.Context) error {
	ctx, end, err := w.store.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	answer, err := w.store.client.Get(ctx, w.prefix+"\x00", clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if now := answer.Header.Revision; now < w.after {
		return fmt.Errorf("%w: revision %d was requested, but the store is at %d", ErrCompacted, w.after, now)
	}
	return nil
}

// follow yields events until the server ends the watch. It reports whether to try again.
func (w *watch) follow(ctx context.Context, yield func([]Event, error) bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.store.ctx, cancel)()
	// A member that has lost the others would keep the watch, and stay silent.
	changes := w.store.client.Watch(clientv3.WithRequireLeader(ctx), w.prefix,
		clientv3.WithPrefix(), clientv3.WithRev(w.after+1))
	for answer := range changes {
		if err := answer.Err(); err != nil {
			if ctx.Err() != nil {
				break
			}
			if w.final(err) {
				yield(nil, w.store.wrap(err, "watch %q", w.prefix))
				return false
			}
			return true
		}
		if len(answer.Events) == 0 {
			continue
		}
		events := make([]Event, len(answer.Events))
		for i, event := range answer.Events {
			events[i] = Event{Item: item(event.Kv), Deleted: event.Type == clientv3.EventTypeDelete}
		}
		w.after = events[len(events)-1].Revision
		w.store.announce(w.after)
		if !yield(events, nil) {
			return false
		}
	}
	return true
}

// announce keeps a revision that reads must have from now on, because somebody is about to know of it.
func (s *Store) announce(revision int64) {
	for {
		told := s.told.Load()
		if revision <= told || s.told.CompareAndSwap(told, revision) {
			return
		}
	}
}

// final reports whether trying again can't help.
func (w *watch) final(err error) bool {
	return w.store.ctx.Err() != nil || errors.Is(err, ErrCompacted) || errors.Is(err, rpctypes.ErrCompacted) ||
		errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, ErrClosed)
}

// wait is the pause before another try. It is cut short when one of the two ends.
func wait(ctx, closed context.Context) {
	timer := time.NewTimer(pause/2 + rand.N(pause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-closed.Done():
	}
}
