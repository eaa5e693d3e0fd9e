package store

import (
	"context"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ownEvents gives each watch of the etcd inside this process events of its own. The server gives all watches of a key
// the same one, and package namespace takes the prefix off the key where it stands: without a copy the second watch
// would lose another prefix's worth of it, while the first one reads.
type ownEvents struct {
	clientv3.Watcher
	running sync.WaitGroup // a copy of each watch, and a queue of each stream
}

// namelessContext keeps package fmt away from the values of a context, which others change (package v3client does the same).
type namelessContext struct{ context.Context }

func (namelessContext) String() string { return "context of a watch" }

// Watch is that of the server. It ends with ctx, or with the server's.
func (w *ownEvents) Watch(ctx context.Context, key string, options ...clientv3.OpOption) clientv3.WatchChan {
	from, to := w.Watcher.Watch(namelessContext{ctx}, key, options...), make(chan clientv3.WatchResponse)
	w.running.Go(func() {
		defer close(to)
		for answer := range from {
			answer.Events = copied(answer.Events)
			select {
			case to <- answer:
			case <-ctx.Done():
				return
			}
		}
	})
	return to
}

// copied shares only the values, which nobody changes.
func copied(events []*clientv3.Event) []*clientv3.Event {
	own := make([]*clientv3.Event, len(events))
	for i, event := range events {
		own[i] = &clientv3.Event{Type: event.Type, Kv: copiedItem(event.Kv), PrevKv: copiedItem(event.PrevKv)}
	}
	return own
}

func copiedItem(kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	return &mvccpb.KeyValue{Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
		Version: kv.Version, Lease: kv.Lease}
}

// Close ends every watch whose context has ended, and waits for it.
func (w *ownEvents) Close() error {
	err := w.Watcher.Close()
	w.running.Wait()
	return err
}
