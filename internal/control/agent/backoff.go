package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// backoff gives the pauses between attempts: each up to twice the one before, and never the same for all agents, which
// lose the control plane at the same moment.
type backoff struct {
	first, last time.Duration
	now         time.Duration
}

// reconnects are the pauses between connections to the control plane.
func reconnects() *backoff { return &backoff{first: 100 * time.Millisecond, last: 5 * time.Second} }

// maxWish bounds how long the control plane may wish to be left alone.
const maxWish = time.Minute

func (b *backoff) next() time.Duration {
	b.now = min(max(2*b.now, b.first), b.last)
	return b.now/2 + rand.N(b.now/2)
}

func (b *backoff) reset() { b.now = 0 }

// wait waits behind an error, which may say for how long. It gives the cause of ctx when that ends first.
func (b *backoff) wait(ctx context.Context, after error) error {
	pause := b.next()
	if refused, ok := errors.AsType[*api.Error](after); ok {
		pause = max(pause, min(refused.RetryAfter, maxWish))
	}
	return sleep(ctx, pause)
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
