package session

import (
	"context"
	"fmt"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/retry"
)

const (
	// cancelAgain is when a query that a cancel has not ended is cancelled again; then after twice that, and so on.
	cancelAgain = 250 * time.Millisecond
	// lastWord is the end of the grace, in which a session ends in the middle of a query if need be.
	lastWord = 500 * time.Millisecond
	// MaxOwnCancels is how many queries the proxy itself cancels at once, in sweeps and drains. Each takes a process at the
	// backend.
	MaxOwnCancels = 32
)

// revoke ends a session that is no longer allowed. An idle one reads why at once. One in a query has it cancelled first,
// so that it ends at a message boundary too; what is left when the grace is over is closed.
func (c *connection) revoke(refused *refusal.Refusal, receipt *pendingReceipt, grace time.Duration) {
	ctx, first := c.account(receipt, refused.Reason)
	if !first {
		return // it is over, or told already
	}
	why := refusal.New(refusal.SessionForbidden, "%s", forbidden(refused, c))
	c.stop(relay.WhenIdle, why)
	go c.terminate(ctx, why, grace)
}

// account makes the end of a live session count for a change of the policy, once. The context ends with the session.
func (c *connection) account(receipt *pendingReceipt, reason refusal.Reason) (ctx context.Context, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.ending != nil {
		return nil, false
	}
	ctx, c.ending = context.WithCancel(context.Background())
	c.receipt = receipt
	c.server.receipts.revoke(receipt, reason)
	c.server.serving.add() // terminate; the session itself is still counted, so nobody has seen the end of them all
	return ctx, true
}

// terminate stays with a session that was told to end until it has.
//
// A cancel is repeated: it can come before the query that it means, or be caught there. The last moments of the grace
// are for what can't be cancelled, such as a COPY that waits for its client: it ends between any two messages, and
// still reads why.
func (c *connection) terminate(ctx context.Context, why *refusal.Refusal, grace time.Duration) {
	defer c.server.serving.done()
	defer c.recoverPanic()
	last := min(lastWord, grace/2)
	patient, cancel := context.WithTimeout(ctx, grace-last)
	defer cancel()
	wait := time.Duration(0)
	if c.stream.Idle() {
		wait = cancelAgain // it is about to end by itself
	}
	for retry.Sleep(patient, wait) == nil {
		c.cancelEnding(patient)
		wait = max(2*wait, cancelAgain)
	}
	if ctx.Err() != nil {
		return
	}
	c.stop(relay.AtBoundary, why)
	if retry.Sleep(ctx, last) == nil {
		c.abort()
	}
}

// cancelEnding cancels the query of a session that is told to end. Its backend serves nobody else.
func (c *connection) cancelEnding(ctx context.Context) {
	select {
	case c.server.admission.ownCancels <- struct{}{}:
		defer func() { <-c.server.admission.ownCancels }()
	case <-ctx.Done():
		return
	}
	key, known := c.server.table.keyOf(c)
	if !known || c.stream.Idle() {
		return
	}
	c.cancelling()
	err := c.server.cancelByKey(ctx, c.server.config.Policy.Current(), key)
	if err != nil && ctx.Err() == nil {
		c.server.config.Log.Warn().Str("conn", c.id).Err(err).Msg("could not cancel the query of a session that has to end")
	}
}

// forbidden tells a client why its session ends.
func forbidden(refused *refusal.Refusal, c *connection) string {
	switch {
	case refused.Reason == refusal.AddressNotAllowed:
		return fmt.Sprintf("No IP rule allows the address %s any more.", c.addr)
	case refused.Detail != "":
		return refused.Detail
	}
	return "The access policy does not allow this session any more: " + refused.Response("").Message + "."
}
