package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleepLastsAsLongAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		for _, d := range []time.Duration{0, -time.Second} {
			begin := time.Now()
			if err := Sleep(t.Context(), d); err != nil || time.Since(begin) != 0 {
				t.Errorf("%v: %v after %v", d, err, time.Since(begin))
			}
		}
	})
}

func TestSleepEndsWithTheContextAndSaysWhy(t *testing.T) {
	why := errors.New("the reason")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		begin := time.Now()
		time.AfterFunc(time.Second, func() { cancel(why) })
		if err := Sleep(ctx, time.Minute); err != why || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		for _, d := range []time.Duration{-1, 0, 1, time.Minute} {
			begin := time.Now()
			if err := Sleep(ctx, d); err != why || time.Since(begin) != 0 {
				t.Errorf("a context that is done, %v: %v after %v", d, err, time.Since(begin))
			}
		}
	})
}

// overtaken is a context that is done although nobody has heard of it yet: a wait beside it always ends with its timer.
type overtaken struct {
	context.Context
	why error
}

func (c overtaken) Err() error { return c.why }

func TestSleepIsNeverNilForAContextThatIsDone(t *testing.T) {
	why := errors.New("the reason")
	synctest.Test(t, func(t *testing.T) {
		for _, d := range []time.Duration{0, time.Second} {
			if err := Sleep(overtaken{t.Context(), why}, d); err != why {
				t.Errorf("%v: %v, although the context was done when the timer fired", d, err)
			}
		}
	})
}

func TestPausesDoubleUpToTheLastAndBeginAgain(t *testing.T) {
	b := Backoff{First: 5, Last: 30}
	for range 2 {
		for _, want := range []time.Duration{5, 10, 20, 30, 30} {
			if got := b.Next(); got != want {
				t.Errorf("%d, want %d", got, want)
			}
		}
		b.Reset()
	}
}

func TestPausesWithJitterAreBetweenTheirHalfAndTheirWhole(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 200 {
		b := Backoff{First: time.Second, Last: 3 * time.Second, Jitter: true}
		for _, whole := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			got := b.Next()
			if got < whole/2 || got >= whole {
				t.Fatalf("%v, want one from %v to %v", got, whole/2, whole)
			}
			seen[got] = true
		}
	}
	if len(seen) < 700 {
		t.Errorf("only %d of 800 pauses differ", len(seen))
	}
	tiny := Backoff{First: 1, Last: 1, Jitter: true}
	if got := tiny.Next(); got != 1 {
		t.Errorf("a pause that can't be divided is %v", got)
	}
}
