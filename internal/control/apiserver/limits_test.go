package apiserver

import (
	"strconv"
	"testing"
	"time"
)

func TestLimitIsOfEachCallerAndComesBack(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := newLimiters(10, 5, func() time.Time { return now })
	taken := func(caller string) (n int) {
		for l.allow(caller) {
			n++
		}
		return n
	}
	if a, b := taken("a"), taken("b"); a != 5 || b != 5 {
		t.Errorf("got %d and %d at once, want 5 each", a, b)
	}
	now = now.Add(300 * time.Millisecond)
	if a := taken("a"); a != 3 {
		t.Errorf("got %d after 300 ms, want 3", a)
	}
}

func TestFloodOfCallersTakesNoMemoryAndShutsOutNobodyWhoWasThere(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := newLimiters(10, 5, func() time.Time { return now })
	l.allow("regular")
	for i := range 3 * maxLimiters {
		l.allow(strconv.Itoa(i))
	}
	if len(l.of) > maxLimiters {
		t.Errorf("%d callers are remembered", len(l.of))
	}
	if !l.allow("regular") {
		t.Error("the flood shuts out who was there before")
	}
	if l.allow("new") {
		t.Error("new callers do not share a limit")
	}
	now = now.Add(time.Minute)
	if !l.allow("new") || len(l.of) != 1 {
		t.Errorf("after a quiet minute %d callers are remembered", len(l.of))
	}
}
