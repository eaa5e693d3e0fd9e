// Package drain ends a process in steps, so that as few clients as possible notice.
//
// It is a state machine over a [Target], which is the proxy: it decides what comes when, and ends nothing itself.
// docs/lifecycle.md draws the steps and the arrows between them, and says what clients see of each.
package drain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/retry"
)

// Step is where a drain stands. Its text is the log's.
type Step string

// The steps, in their order. A drain begins with one of the first two.
const (
	Leaving           Step = "leaving"    // not ready any more; new connections are served as before
	FinishingStartups Step = "letting_in" // the listening sockets have a new owner; connections from before it still become sessions
	Finishing         Step = "finishing"  // no new sessions; those that live end outside of a transaction
	Cutting           Step = "cutting"    // queries are cancelled, and sessions end wherever they may be told why
	Closing           Step = "closing"    // sockets are closed
	Drained           Step = "drained"
)

// Steps are all of them, in their order.
var Steps = []Step{Leaving, FinishingStartups, Finishing, Cutting, Closing, Drained}

// How long the steps take that no configuration bounds.
const (
	// startupsAtLeast is how long the startups have at least: a client that has had its first answer may have a second
	// question.
	startupsAtLeast = time.Second
	// startupsPoll is how often the drain looks whether a startup is left.
	startupsPoll = 50 * time.Millisecond
	// cancelLimit is how long a cancelled query has to end, so that its client reads how.
	cancelLimit = 2 * time.Second
	// boundaryLimit is how long the other sessions have to reach a message boundary and read their last word.
	boundaryLimit = time.Second
	// recordLimit is how long closed connections have to be recorded.
	recordLimit = 3 * time.Second
)

var (
	errGraceOver    = errors.New("the drain's grace is over")
	errSecondSignal = errors.New("a second signal came")
)

// Target is what a drain needs of the proxy. No method waits, except for Quiet and CancelQueries.
type Target interface {
	// Entered is told of each step.
	Entered(Step)
	// CloseListeners ends the accepting.
	CloseListeners()
	// StartingUp reports whether a connection that was accepted lately has not logged in and asked something yet.
	StartingUp() bool
	// RefuseNew refuses every connection that would become a session from now on.
	RefuseNew()
	// Stop tells every session why it ends, at the moment that is given or the sooner one of another Stop.
	Stop(relay.When)
	// CancelQueries cancels what sessions have running. It returns when each was tried, or soon after the context is done.
	CancelQueries(context.Context)
	// Abort closes every connection.
	Abort()
	// Quiet returns nil when every connection is closed and recorded, or an error when the context is done first.
	Quiet(context.Context) error
	// Busy returns the number of sessions inside of a query or a transaction.
	Busy() int
}

// Drain is the end of one process. Its fields are set before Run.
type Drain struct {
	Target     Target
	ReadyDelay time.Duration // how long to serve on after having said that it ends
	Grace      time.Duration // how long transactions have to end
	Startup    time.Duration // how long a connection may take to become a session
	// HandedOver says that another process accepts from the same sockets by now. There is no client to be sent elsewhere,
	// so there is no delay, and nobody is refused.
	HandedOver   bool
	SecondSignal <-chan os.Signal // skips what is left of the delay and the grace
}

// Run returns when the last connection is closed. An error says that sessions lost a query or a transaction. The end of ctx
// ends the delay and the grace.
func (d *Drain) Run(ctx context.Context) error {
	unhurried, hurry := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { d.watchSignal(unhurried, hurry) })
	defer watching.Wait()
	defer hurry(nil)
	if d.HandedOver {
		d.finishStartups(unhurried)
	} else {
		d.leave(unhurried)
	}
	grace, stop := context.WithTimeoutCause(unhurried, d.Grace, errGraceOver)
	defer stop()
	if d.finish(grace) == nil {
		d.Target.Entered(Drained)
		return nil
	}
	lost := d.Target.Busy()
	d.cut()
	d.Target.Entered(Drained)
	if lost == 0 { // only sessions that were told, and connections that had not got so far
		return nil
	}
	return fmt.Errorf("%d sessions were cut off: %w", lost, context.Cause(grace))
}

// watchSignal ends the delay and the grace at the second signal.
func (d *Drain) watchSignal(ctx context.Context, hurry context.CancelCauseFunc) {
	select {
	case <-d.SecondSignal:
		hurry(errSecondSignal)
	case <-ctx.Done():
	}
}

// leave lets balancers learn from /readyz that they have to look elsewhere.
func (d *Drain) leave(ctx context.Context) {
	d.Target.Entered(Leaving)
	_ = retry.Sleep(ctx, d.ReadyDelay)
	d.Target.CloseListeners()
}

// finishStartups serves clients that were accepted before the sockets had their new owner, until they have asked what they
// came for.
func (d *Drain) finishStartups(ctx context.Context) {
	d.Target.Entered(FinishingStartups)
	d.Target.CloseListeners()
	ctx, cancel := context.WithTimeout(ctx, max(d.Startup, startupsAtLeast))
	defer cancel()
	_ = retry.Sleep(ctx, startupsAtLeast)
	for d.Target.StartingUp() && ctx.Err() == nil {
		_ = retry.Sleep(ctx, startupsPoll)
	}
}

// finish ends sessions that are idle outside of a transaction now and the others when they are. The target refuses new
// ones before it tells those that it has, so that none comes in between.
func (d *Drain) finish(ctx context.Context) error {
	d.Target.Entered(Finishing)
	d.Target.RefuseNew()
	d.Target.Stop(relay.OutsideTransaction)
	return d.Target.Quiet(ctx)
}

// cut ends what is left: first so that clients read how their queries have ended, then between two messages, then by
// closing sockets. Cancels that the database does not answer hold nothing up.
func (d *Drain) cut() {
	d.Target.Entered(Cutting)
	d.Target.Stop(relay.WhenIdle)
	ctx, cancel := context.WithTimeout(context.Background(), cancelLimit+boundaryLimit)
	var cancels sync.WaitGroup
	cancels.Go(func() { d.Target.CancelQueries(ctx) })
	defer cancels.Wait()
	defer cancel()
	if d.quietFor(cancelLimit) {
		return
	}
	d.Target.Stop(relay.AtBoundary)
	if d.quietFor(boundaryLimit) {
		return
	}
	d.Target.Entered(Closing)
	d.Target.Abort()
	d.quietFor(recordLimit)
}

// quietFor is Quiet with a limit. The drain's own context may be over.
func (d *Drain) quietFor(limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return d.Target.Quiet(ctx) == nil
}
