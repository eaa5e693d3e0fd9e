package eventually

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// failure records what a test would have failed with.
type failure struct {
	testing.TB
	text string
}

func (f *failure) Helper() {}

func (f *failure) Fatalf(format string, args ...any) { f.text = fmt.Sprintf(format, args...) }

func TestWaitEndsWhenTheConditionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, calls := time.Now(), 0
		condition := func() bool { calls++; return calls == 4 }
		True(t, time.Hour, "four calls", condition)
		if waited := time.Since(begin); calls != 4 || waited != 3*interval {
			t.Errorf("%d calls in %v, want 4 in %v", calls, waited, 3*interval)
		}
		calls = 3
		True(t, 0, "the first look", condition)
	})
}

func TestTestFailsWithTheLastErrorWhenPatienceIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, f, calls := time.Now(), failure{TB: t}, 0
		OK(&f, time.Minute+interval/2, func() error { calls++; return fmt.Errorf("look %d", calls) })
		want := fmt.Sprintf("after 1m0.0025s: look %d", calls)
		if waited := time.Since(begin); f.text != want || waited != time.Minute+interval/2 || calls != int(time.Minute/interval)+1 {
			t.Errorf("%q after %v and %d calls, want %q", f.text, waited, calls, want)
		}
		True(&f, time.Second, "the sun rises", func() bool { return false })
		if want := "not within 1s: the sun rises"; f.text != want {
			t.Errorf("%q, want %q", f.text, want)
		}
	})
}

func TestPollReturnsTheErrorToTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("wrong")
		if err := Poll(time.Second, 300*time.Millisecond, func() error { return wrong }); err != wrong {
			t.Errorf("the error is %v", err)
		}
	})
}
