package e2e

import (
	"errors"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once. It is long because the machine may be busy; nothing waits it out
// when all is well.
const patience = 20 * time.Second

// errNotYet is for conditions that have nothing better to say.
var errNotYet = errors.New("not yet")

// eventually waits until the condition gives nil, and fails the test with its last error when it doesn't.
func eventually(t testing.TB, condition func() error) {
	t.Helper()
	if err := poll(patience, condition); err != nil {
		t.Fatalf("after %s: %v", patience, err)
	}
}

// poll is [eventually] for callers that have another use for the error or the time.
func poll(limit time.Duration, condition func() error) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
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
