package store

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// page is how many items come in one answer.
	page = 256
	// restarts is how often List begins again when its revision is compacted under it, which takes hours each time.
	restarts = 3
)

// Item is what is kept under one key.
type Item struct {
	Key      string // without the prefix of the store
	Value    []byte
	Revision int64 // of the transaction that changed it last; goes into Tx.If
}

// Get reads one item, as of the last commit anywhere. Without one it gives ErrNotFound.
func (s *Store) Get(ctx context.Context, key string) (Item, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return Item{}, s.wrap(err, "get %q", key)
	}
	defer end()
	answer, err := s.query(ctx, key)
	if err == nil && len(answer.Kvs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Item{}, s.wrap(err, "get %q", key)
	}
	return item(answer.Kvs[0]), nil
}

// List reads every item whose key starts with prefix, in the order of their keys, as they were at one revision: that of
// the last commit anywhere. Watch after that revision tells what changed since.
func (s *Store) List(ctx context.Context, prefix string) (items []Item, revision int64, err error) {
	for range restarts {
		items, revision, err = s.list(ctx, prefix)
		if !errors.Is(err, ErrCompacted) {
			break
		}
	}
	return items, revision, err
}

func (s *Store) list(ctx context.Context, prefix string) ([]Item, int64, error) {
	var items []Item
	var revision int64
	for from := prefix; ; {
		answer, err := s.scan(ctx, scan{prefix: prefix, from: from, options: []clientv3.OpOption{
			clientv3.WithLimit(page), clientv3.WithRev(revision),
		}})
		if err != nil {
			return nil, 0, s.wrap(err, "list %q", prefix)
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		for _, kv := range answer.Kvs {
			items = append(items, item(kv))
		}
		if !answer.More {
			return items, revision, nil
		}
		from = next(items[len(items)-1].Key)
	}
}

// Range is a part of the items under a prefix.
type Range struct {
	Prefix string
	// After is the key that comes just before the first one, in the direction of the range. It need not exist. Empty:
	// from the beginning.
	After string
	// Limit is the greatest number of items; 0 or less: 256.
	Limit int
	// Descending: from the last key to the first.
	Descending bool
}

// ListRange reads a part of the items under a prefix. Pages that are read one after the other are of different
// revisions.
//
// A descending range costs the server a walk over all keys that come before, in memory, but over no values.
func (s *Store) ListRange(ctx context.Context, r Range) ([]Item, error) {
	if r.Limit <= 0 {
		r.Limit = page
	}
	what := scan{prefix: r.Prefix, from: r.Prefix, options: []clientv3.OpOption{clientv3.WithLimit(int64(r.Limit))}}
	if r.After != "" && !r.Descending {
		what.from = max(r.Prefix, next(r.After))
	}
	if r.Descending {
		bottom, err := s.bottom(ctx, r)
		if err != nil || bottom == "" {
			return nil, err
		}
		what.from, what.before = bottom, r.After
	}
	answer, err := s.scan(ctx, what)
	if err != nil {
		return nil, s.wrap(err, "list part of %q", r.Prefix)
	}
	items := make([]Item, len(answer.Kvs))
	for i, kv := range answer.Kvs {
		items[i] = item(kv)
	}
	if r.Descending {
		slices.Reverse(items)
	}
	return items, nil
}

// bottom finds the first key of a descending range. For values etcd would read all those before them from its disk and
// sort them; for keys alone it asks its index.
func (s *Store) bottom(ctx context.Context, r Range) (string, error) {
	answer, err := s.scan(ctx, scan{prefix: r.Prefix, from: r.Prefix, before: r.After, options: []clientv3.OpOption{
		clientv3.WithLimit(int64(r.Limit)), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend),
	}})
	if err != nil {
		return "", s.wrap(err, "list part of %q", r.Prefix)
	}
	if len(answer.Kvs) == 0 {
		return "", nil
	}
	return string(answer.Kvs[len(answer.Kvs)-1].Key), nil
}

// scan is one request for several items: those with a prefix, from a key on, and before another one if there is one.
type scan struct {
	prefix, from, before string
	options              []clientv3.OpOption
}

func (s *Store) scan(ctx context.Context, what scan) (*clientv3.GetResponse, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	end := clientv3.GetPrefixRangeEnd(what.prefix)
	if what.prefix == "" {
		end = "\x00" // to the last key
	}
	if what.before != "" && (end == "\x00" || what.before < end) {
		end = what.before
	}
	if end != "\x00" && what.from >= end {
		return &clientv3.GetResponse{}, nil
	}
	from := what.from
	if from == "" {
		from = "\x00" // the first key that there can be
	}
	return s.query(ctx, from, append(what.options, clientv3.WithRange(end))...)
}

// query reads as of the last commit anywhere.
//
// For that etcd asks its raft loop for the number of the last commit, and waits there for whatever is being synced to disk.
// That is for members that may be behind. The one inside this process has applied whatever it has acknowledged, so it
// answers at once with what it has. It tells watches of a change just before that can be read, though: then it waits too.
// So does Open's own read, the first one: at a start the log is applied again.
func (s *Store) query(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if s.embedded != nil {
		told := s.told.Load()
		answer, err := s.client.Get(ctx, key, slices.Concat(options, []clientv3.OpOption{clientv3.WithSerializable()})...)
		if err != nil || answer.Header.Revision >= told {
			return answer, err
		}
	}
	return s.client.Get(ctx, key, options...)
}

// next is the first key after another one.
func next(key string) string { return key + "\x00" }

func item(kv *mvccpb.KeyValue) Item {
	return Item{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}
}
