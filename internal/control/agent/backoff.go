package agent

import (
	"context"
	"errors"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/retry"
)

// reconnects are the pauses between connections to the control plane. They are never the same for all agents, which lose
// it at the same moment.
type reconnects struct{ retry.Backoff }

func newReconnects() *reconnects {
	return &reconnects{retry.Backoff{First: 100 * time.Millisecond, Last: 5 * time.Second, Jitter: true}}
}

// maxWish bounds how long the control plane may wish to be left alone.
const maxWish = time.Minute

// wait waits behind an error, which may say for how long. It gives the cause of ctx when that ends first.
func (b *reconnects) wait(ctx context.Context, after error) error {
	pause := b.Next()
	if refused, ok := errors.AsType[*api.Error](after); ok {
		pause = max(pause, min(refused.RetryAfter, maxWish))
	}
	return retry.Sleep(ctx, pause)
}
