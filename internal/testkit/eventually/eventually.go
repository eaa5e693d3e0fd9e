// Package eventually waits for what another goroutine or process does. Tests use it instead of sleeping: the wait ends as
// soon as the condition holds, so a long patience costs nothing when all is well.
package eventually

import (
	"errors"
	"testing"
	"time"
)

// interval is the time between two looks at a condition.
const interval = 5 * time.Millisecond

// ErrNotYet is for conditions that have nothing better to say.
var ErrNotYet = errors.New("not yet")

// OK polls condition until it returns nil. It fails the test at once, with the last error, when that takes longer than
// patience. It must be called from the test's own goroutine.
func OK(t testing.TB, patience time.Duration, condition func() error) {
	t.Helper()
	if err := Poll(patience, interval, condition); err != nil {
		t.Fatalf("after %s: %v", patience, err)
	}
}

// True is [OK] for a condition that can't say what is missing; what names it, as in "every goroutine is gone".
func True(t testing.TB, patience time.Duration, what string, condition func() bool) {
	t.Helper()
	err := Poll(patience, interval, func() error {
		if condition() {
			return nil
		}
		return ErrNotYet
	})
	if err != nil {
		t.Fatalf("not within %s: %s", patience, what)
	}
}

// Poll calls condition at once and then after every interval, until it returns nil or patience is over. It returns the last
// error. The condition is called at least once, in the goroutine of the caller, which may be any.
func Poll(patience, interval time.Duration, condition func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.C:
			return err
		case <-tick.C:
		}
	}
}
