package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgmtls-proxy/internal/testkit/etcdtest"
)

func TestWatchTellsWhatWasDoneToAKey(t *testing.T) {
	s := fresh(t)
	start := put(t, s, "a/1", "before")
	first := commit(t, s, new(Tx).Put("a/1", []byte("x")).Put("a/2", []byte("y")).Put("b", nil))
	second := commit(t, s, new(Tx).Delete("a/1"))

	var got []Event
	for events, err := range s.Watch(within(t), "a/", start) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, events...)
		if len(got) >= 3 {
			break
		}
	}
	want := []Event{
		{Item: Item{Key: "a/1", Value: []byte("x"), Revision: first}},
		{Item: Item{Key: "a/2", Value: []byte("y"), Revision: first}},
		{Item: Item{Key: "a/1", Revision: second}, Deleted: true},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The server inside this process gives all watches the same events.
func TestWatchesOfTheSameKeysDisturbNobody(t *testing.T) {
	const watches, changes = 4, 50
	s := fresh(t)
	start := put(t, s, "other", "")
	ctx := within(t)
	var watching sync.WaitGroup
	for range watches {
		watching.Go(func() {
			n := 0
			for events, err := range s.Watch(ctx, "databases/", start) {
				if err != nil {
					t.Error(err)
					return
				}
				for _, event := range events {
					if want := fmt.Sprintf("databases/%03d", n); event.Key != want {
						t.Errorf("a watch was told of %q, want %q", event.Key, want)
						return
					}
					n++
				}
				if n == changes {
					return
				}
			}
			t.Errorf("a watch was told of %d changes, want %d", n, changes)
		})
	}
	for n := range changes {
		put(t, s, fmt.Sprintf("databases/%03d", n), "x")
	}
	watching.Wait()
}

func TestWatchOfWhatIsNotKeptSaysSo(t *testing.T) {
	s := fresh(t)
	first := put(t, s, "a", "1")
	second := put(t, s, "a", "2")
	last := put(t, s, "a", "3")
	if _, err := s.client.Compact(within(t), last); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[int64]error{first: ErrCompacted, second: nil, last + 1: ErrCompacted} {
		got := false
		for events, err := range s.Watch(within(t), "", after) {
			got = true
			if want != nil {
				wants(t, err, want)
				continue // the loop must end by itself
			}
			if err != nil || len(events) != 1 || string(events[0].Value) != "3" {
				t.Errorf("after %d: %v, %v", after, events, err)
			}
			break
		}
		if !got {
			t.Errorf("after %d: nothing", after)
		}
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	s := fresh(t)
	start := put(t, s, "a", "1")
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	put(t, s, "a", "2")
	count := 0
	for events, err := range s.Watch(ctx, "", start) {
		if err != nil || len(events) != 1 {
			t.Errorf("%v, %v", events, err)
		}
		count++
		cancel()
	}
	if count != 1 {
		t.Errorf("%d times", count)
	}
}

func TestWatchEndsWithItsStore(t *testing.T) {
	s := fresh(t)
	start := put(t, s, "a", "1")
	put(t, s, "a", "2")
	var errs []error
	for _, err := range s.Watch(within(t), "", start) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		closed(t, s)
	}
	if len(errs) != 1 {
		t.Fatalf("got %v", errs)
	}
	wants(t, errs[0], ErrClosed)
}

// Each commit is of two keys, so an event that is lost, doubled or torn from its transaction shows.
func TestDisconnectsLoseAndDoubleNoEvent(t *testing.T) {
	nodes := etcdtest.Cluster(t)
	wire := forward(t, nodes[0].Client)
	watcher := open(t, Options{Endpoints: []string{wire.url()}})
	writer := open(t, Options{Endpoints: endpoints(nodes)})
	start := put(t, writer, "start", "")
	ctx := within(t)

	const commits, cuts = 300, 5
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := range commits {
			value := fmt.Appendf(nil, "%d", n)
			if _, err := writer.Commit(ctx, new(Tx).Put("n/a", value).Put("n/b", value)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer writing.Wait()

	var got []string
	next := commits / cuts
	for events, err := range watcher.Watch(ctx, "n/", start) {
		if err != nil {
			t.Fatal(err)
		}
		if len(events)%2 != 0 {
			t.Fatalf("half a transaction: %v", events)
		}
		for _, event := range events {
			got = append(got, event.Key+"="+string(event.Value))
		}
		if len(got)/2 >= next {
			wire.cut()
			next += commits / cuts
		}
		if len(got) >= 2*commits {
			break
		}
	}
	if wire.cuts() < 2 {
		t.Errorf("%d connections were cut", wire.cuts())
	}
	var want []string
	for n := range commits {
		want = append(want, fmt.Sprintf("n/a=%d", n), fmt.Sprintf("n/b=%d", n))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d events, want %d: %.500q", len(got), len(want), got)
	}
}

func TestWatchThatWasCutOffTooLongIsToldSo(t *testing.T) {
	nodes := etcdtest.Cluster(t)
	wire := forward(t, nodes[0].Client)
	watcher := open(t, Options{Endpoints: []string{wire.url()}})
	writer := open(t, Options{Endpoints: endpoints(nodes)})
	start := put(t, writer, "a", "0")
	put(t, writer, "a", "1")

	told := 0
	for _, err := range watcher.Watch(within(t), "a", start) {
		if err != nil {
			wants(t, err, ErrCompacted)
			told++
			continue
		}
		wire.refuse(true)
		put(t, writer, "a", "2")
		last := put(t, writer, "a", "3")
		if _, err := writer.client.Compact(within(t), last); err != nil {
			t.Fatal(err)
		}
		wire.refuse(false)
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// Who is told of a change reads it: a policy that is made from what was there before would never be made again.
func TestReadAfterAnEventHasTheChange(t *testing.T) {
	const changes = 2000
	s := fresh(t)
	start := put(t, s, "databases/1", "")
	var changing sync.WaitGroup
	defer changing.Wait()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	changing.Go(func() {
		for range changes {
			if _, err := s.Commit(ctx, new(Tx).Put("databases/1", nil)); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	n := 0
	for events, err := range s.Watch(ctx, "databases/", start) {
		if err != nil {
			t.Fatal(err)
		}
		told := events[len(events)-1].Revision
		item, err := s.Get(ctx, "databases/1")
		if err != nil || item.Revision < told {
			t.Fatalf("told of revision %d, read %d, %v", told, item.Revision, err)
		}
		items, revision, err := s.List(ctx, "databases/")
		if err != nil || revision < told || items[0].Revision < told {
			t.Fatalf("told of revision %d, listed %d at %d, %v", told, items[0].Revision, revision, err)
		}
		if n += len(events); n == changes {
			return
		}
	}
	t.Errorf("told of %d changes", n)
}
