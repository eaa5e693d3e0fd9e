// Package retry has the pauses between attempts: a wait that a context ends, and waits that grow.
//
// What is tried again, after which errors and how often, is for the callers to know.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for the duration and returns nil, or, as soon as ctx is done, its cause. It never returns nil for a context
// that is done, not even if the time is over at the same moment.
func Sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// Backoff yields the pauses between attempts that fail: First, then twice the pause before, up to Last. A value with only
// its exported fields set has seen no failure. It is for one goroutine at a time.
type Backoff struct {
	First, Last time.Duration

	// Jitter makes each pause random, between its half and its whole: many programs that lose the same server at the same
	// moment must not come back in step.
	Jitter bool

	now time.Duration
}

// Next returns the pause after one more failure.
func (b *Backoff) Next() time.Duration {
	b.now = min(max(2*b.now, b.First), b.Last)
	if half := b.now / 2; b.Jitter && half > 0 {
		return half + rand.N(half)
	}
	return b.now
}

// Reset makes the next pause the first again. It is called after a success.
func (b *Backoff) Reset() { b.now = 0 }
