package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestListIsOfOneRevisionWhileOthersWrite(t *testing.T) {
	s := fresh(t)
	const items = 3*page + 1
	for from := 0; from < items; from += MaxOperations {
		tx := new(Tx)
		for i := from; i < min(from+MaxOperations, items); i++ {
			tx.Put(fmt.Sprintf("item/%05d", i), []byte("0"))
		}
		commit(t, s, tx)
	}
	first, last := fmt.Sprintf("item/%05d", 0), fmt.Sprintf("item/%05d", items-1)

	commit(t, s, new(Tx).Put(first, []byte("0")).Put(last, []byte("0")))

	ctx, stop := context.WithCancel(within(t))
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			value := []byte(strconv.Itoa(n))
			if _, err := s.Commit(ctx, new(Tx).Put(first, value).Put(last, value)); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	defer writer.Wait()
	defer stop()

	seen := map[string]bool{}
	for len(seen) < 20 && !t.Failed() {
		all, revision, err := s.List(ctx, "item/")
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != items || !slices.IsSortedFunc(all, func(a, b Item) int { return strings.Compare(a.Key, b.Key) }) {
			t.Fatalf("%d items, want %d in order", len(all), items)
		}
		one, other := all[0], all[items-1]
		if string(one.Value) != string(other.Value) || one.Revision != other.Revision || one.Revision > revision {
			t.Fatalf("pages of several revisions: %+v and %+v at %d", one, other, revision)
		}
		seen[string(one.Value)] = true
	}
}

func TestListTakesThePrefixAndNoMore(t *testing.T) {
	s := fresh(t)
	for _, key := range []string{"a", "a/", "a/1", "a/2", "a0", "\x00", "\xff\xff"} {
		put(t, s, key, "")
	}
	for prefix, want := range map[string][]string{
		"":         {"\x00=", "a=", "a/=", "a/1=", "a/2=", "a0=", "\xff\xff="},
		"a/":       {"a/=", "a/1=", "a/2="},
		"a/2":      {"a/2="},
		"\xff":     {"\xff\xff="},
		"\xff\xff": {"\xff\xff="},
		"none":     nil,
	} {
		if got := content(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("under %q: %q, want %q", prefix, got, want)
		}
	}
}

func TestStoresOfOtherPrefixesAreNotSeen(t *testing.T) {
	directory := directory(t)
	one := open(t, Options{DataDir: directory, Prefix: "/one/"})
	put(t, one, "key", "of one")
	closed(t, one)
	other := open(t, Options{DataDir: directory, Prefix: "/two/"})
	if got := content(t, other, ""); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	commit(t, other, new(Tx).DeletePrefix(""))
	closed(t, other)
	if got := content(t, open(t, Options{DataDir: directory, Prefix: "/one/"}), ""); !slices.Equal(got, []string{"key=of one"}) {
		t.Errorf("got %q", got)
	}
}

func TestRangesPageInBothDirections(t *testing.T) {
	s := fresh(t)
	put(t, s, "audi", "before")
	put(t, s, "audit0", "behind")
	var up []string
	for i := range 10 {
		key := fmt.Sprintf("audit/%02d", i)
		put(t, s, key, "x")
		up = append(up, key+"=x")
	}
	down := slices.Clone(up)
	slices.Reverse(down)

	for _, descending := range []bool{false, true} {
		want := up
		if descending {
			want = down
		}
		for _, limit := range []int{0, 1, 3, 5, 10, 11} {
			var got []string
			after := ""
			for {
				items, err := s.ListRange(within(t), Range{Prefix: "audit/", After: after, Limit: limit, Descending: descending})
				if err != nil {
					t.Fatal(err)
				}
				if len(items) == 0 {
					break
				}
				if limit > 0 && len(items) > limit {
					t.Errorf("%d items with limit %d", len(items), limit)
				}
				got = append(got, texts(items)...)
				after = items[len(items)-1].Key
			}
			if !slices.Equal(got, want) {
				t.Errorf("descending %v, by %d: %q", descending, limit, got)
			}
		}
	}

	for _, row := range []struct {
		r    Range
		want []string
	}{
		{Range{Prefix: "audit/", After: "audit/055"}, up[6:]},
		{Range{Prefix: "audit/", After: "audit/055", Descending: true}, down[4:]},
		{Range{Prefix: "audit/", After: "a"}, up},
		{Range{Prefix: "audit/", After: "a", Descending: true}, nil},
		{Range{Prefix: "audit/", After: "z"}, nil},
		{Range{Prefix: "audit/", After: "z", Descending: true}, down},
		{Range{Prefix: "", Limit: 1}, []string{"audi=before"}},
		{Range{Prefix: "", Limit: 1, Descending: true}, []string{"audit0=behind"}},
	} {
		items, err := s.ListRange(within(t), row.r)
		if err != nil || !slices.Equal(texts(items), row.want) {
			t.Errorf("%+v: %q, %v", row.r, texts(items), err)
		}
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := fresh(t)
	put(t, s, "a", "1")
	closed(t, s)
	closed(t, s)
	ctx := within(t)
	_, err := s.Get(ctx, "a")
	wants(t, err, ErrClosed)
	_, _, err = s.List(ctx, "")
	wants(t, err, ErrClosed)
	_, err = s.ListRange(ctx, Range{})
	wants(t, err, ErrClosed)
	_, err = s.ListRange(ctx, Range{Descending: true})
	wants(t, err, ErrClosed)
	_, err = s.Commit(ctx, new(Tx).Put("a", nil))
	wants(t, err, ErrClosed)
	wants(t, s.Health(ctx), ErrClosed)
	_, err = s.Stats(ctx)
	wants(t, err, ErrClosed)
	wants(t, s.Lead(ctx, Election{Name: "x"}, nil), ErrClosed)
	wants(t, s.SaveSnapshot(ctx, nil), ErrClosed)
	for _, err := range s.Watch(ctx, "", 0) {
		wants(t, err, ErrClosed)
	}
}
