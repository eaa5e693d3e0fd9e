package store

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

func TestConditionThatDoesNotHoldChangesNothing(t *testing.T) {
	s := fresh(t)
	ctx := within(t)
	first := commit(t, s, new(Tx).If("a", 0).Put("a", []byte("1")).Put("b", []byte("1")))
	for _, key := range []string{"a", "b"} {
		item, err := s.Get(ctx, key)
		if err != nil || string(item.Value) != "1" || item.Key != key || item.Revision != first {
			t.Errorf("%+v, %v", item, err)
		}
	}

	for _, tx := range []*Tx{
		new(Tx).If("a", 0).Put("a", []byte("2")),
		new(Tx).If("a", first).If("none", first).Put("a", []byte("2")),
		new(Tx).If("a", first-1).Delete("b"),
		new(Tx).If("a", first+1).DeletePrefix(""),
	} {
		_, err := s.Commit(ctx, tx)
		wants(t, err, ErrConflict)
	}
	if got := content(t, s, ""); !slices.Equal(got, []string{"a=1", "b=1"}) {
		t.Errorf("after conflicts: %q", got)
	}

	second := commit(t, s, new(Tx).If("a", first).If("none", 0).Put("a", []byte("2")).Delete("b").Delete("none"))
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
	_, err := s.Get(ctx, "b")
	wants(t, err, ErrNotFound)
	if got := content(t, s, ""); !slices.Equal(got, []string{"a=2"}) {
		t.Errorf("after the commit: %q", got)
	}
}

func TestDeletePrefixTakesWhatStartsWithItAndNoMore(t *testing.T) {
	s := fresh(t)
	for _, key := range []string{"a", "a/", "a/1", "a/1/x", "a0", "b"} {
		put(t, s, key, "")
	}
	commit(t, s, new(Tx).DeletePrefix("a/").Put("c", nil))
	if got := content(t, s, ""); !slices.Equal(got, []string{"a=", "a0=", "b=", "c="}) {
		t.Errorf("left: %q", got)
	}
	commit(t, s, new(Tx).DeletePrefix(""))
	if got := content(t, s, ""); len(got) > 0 {
		t.Errorf("left of everything: %q", got)
	}
}

func TestValueIsCopiedByPut(t *testing.T) {
	s := fresh(t)
	value := []byte("before")
	tx := new(Tx).Put("a", value)
	copy(value, "after!")
	commit(t, s, tx)
	if got := content(t, s, ""); !slices.Equal(got, []string{"a=before"}) {
		t.Errorf("got %q", got)
	}
}

// The limits are promises: what they allow must be taken as it is.
func TestTransactionOfTheGreatestSizeIsTakenAndOneLargerIsNot(t *testing.T) {
	s := fresh(t)
	ctx := within(t)
	many := func(n int) *Tx {
		tx := new(Tx)
		for i := range n {
			tx.If(fmt.Sprint(i), 0).Put(fmt.Sprint(i), []byte("x"))
		}
		return tx
	}
	_, err := s.Commit(ctx, many(MaxOperations+1))
	wants(t, err, ErrTooLarge)
	_, err = s.Commit(ctx, new(Tx).Put("large", bytes.Repeat([]byte{1}, MaxBytes)))
	wants(t, err, ErrTooLarge)
	if got := content(t, s, ""); len(got) > 0 {
		t.Errorf("written: %d items", len(got))
	}
	commit(t, s, many(MaxOperations))
	commit(t, s, new(Tx).Put("large", bytes.Repeat([]byte{1}, MaxBytes-len("large"))))
	if got := content(t, s, ""); len(got) != MaxOperations+1 {
		t.Errorf("written: %d items", len(got))
	}
}

func TestKeyChangedTwiceIsAnError(t *testing.T) {
	s := fresh(t)
	for _, tx := range []*Tx{
		new(Tx).Put("a/1", nil).Put("a/1", nil),
		new(Tx).Put("a/1", nil).DeletePrefix("a/"),
	} {
		_, err := s.Commit(within(t), tx)
		says(t, err, "duplicate key")
	}
	if got := content(t, s, ""); len(got) > 0 {
		t.Errorf("written: %q", got)
	}
}
