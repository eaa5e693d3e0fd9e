package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/admin"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

// step is where a drain stands. docs/lifecycle.md draws the steps and the arrows between them.
type step string

const (
	leaving   step = "leaving"    // not ready any more; new connections are served as before
	lettingIn step = "letting_in" // the listening sockets have a new owner; who came before it is still let in
	finishing step = "finishing"  // nobody comes in; sessions end outside of a transaction
	cutting   step = "cutting"    // queries are cancelled, and sessions end wherever they may be told why
	closing   step = "closing"    // sockets are closed
	drained   step = "drained"
)

// How long the steps take that no configuration bounds.
const (
	// settle is how long the letting in takes at least: a client that has had its first answer may have a second
	// question.
	settle = time.Second
	// settlePoll is how often the drain looks whether everybody is in.
	settlePoll = 50 * time.Millisecond
	// cancelled is how long a cancelled query has to end, so that its client reads how.
	cancelled = 2 * time.Second
	// farewell is how long the others have to reach a message boundary and read their last word.
	farewell = time.Second
	// lastRecords is how long closed connections have to be recorded.
	lastRecords = 3 * time.Second
)

var (
	errGraceOver = errors.New("the drain's grace is over")
	errImpatient = errors.New("a second signal came")
)

// drainee is what a drain needs of the proxy.
type drainee interface {
	// entered is told of each step.
	entered(step)
	// closeListeners ends the accepting.
	closeListeners()
	// comingIn tells whether anybody who was accepted lately has not logged in and asked something yet.
	comingIn() bool
	// refuseNew refuses who would become a session from now on.
	refuseNew()
	// stop tells every session why it ends, at the moment that is given or the sooner one of another stop.
	stop(relay.When)
	cancelQueries()
	abort()
	// quiet waits until every connection is closed and recorded, or the context is done.
	quiet(context.Context) error
	// busy is the number of sessions inside of a query or a transaction.
	busy() int
}

// drain ends a process in steps, so that as few clients as possible notice. Its fields are set before run.
type drain struct {
	proxy      drainee
	readyDelay time.Duration // how long to serve on after having said that it ends
	grace      time.Duration // how long transactions have to end
	startup    time.Duration // how long a connection may take to become a session
	// handedOver: another process accepts from the same sockets by now. There is nobody to be sent elsewhere, so
	// that there is no delay, and nobody is refused.
	handedOver bool
	impatient  <-chan os.Signal // skips what is left of the delay and the grace
}

// run returns when the last connection is closed. An error says that sessions lost a query or a transaction.
func (d *drain) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go d.watchImpatience(ctx, cancel)
	if d.handedOver {
		d.letIn(ctx)
	} else {
		d.leave(ctx)
	}
	ctx, stop := context.WithTimeoutCause(ctx, d.grace, errGraceOver)
	defer stop()
	if d.finish(ctx) == nil {
		d.proxy.entered(drained)
		return nil
	}
	lost := d.proxy.busy()
	d.cut()
	d.proxy.entered(drained)
	if lost == 0 { // only sessions that were told, and connections that had not got so far
		return nil
	}
	return fmt.Errorf("%d sessions were cut off: %w", lost, context.Cause(ctx))
}

// watchImpatience ends the delay and the grace at the second signal.
func (d *drain) watchImpatience(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-d.impatient:
		cancel(errImpatient)
	case <-ctx.Done():
	}
}

// leave lets balancers learn from /readyz that they have to look elsewhere.
func (d *drain) leave(ctx context.Context) {
	d.proxy.entered(leaving)
	pause(ctx, d.readyDelay)
	d.proxy.closeListeners()
}

// letIn serves those who were accepted before the sockets' new owner was there, until they have asked what they came for.
func (d *drain) letIn(ctx context.Context) {
	d.proxy.entered(lettingIn)
	d.proxy.closeListeners()
	ctx, cancel := context.WithTimeout(ctx, max(d.startup, settle))
	defer cancel()
	pause(ctx, settle)
	for d.proxy.comingIn() && ctx.Err() == nil {
		pause(ctx, settlePoll)
	}
}

// finish ends sessions that are idle outside of a transaction now and the others when they are. The table refuses new
// ones before it tells those that are in it, so that none comes in between.
func (d *drain) finish(ctx context.Context) error {
	d.proxy.entered(finishing)
	d.proxy.refuseNew()
	d.proxy.stop(relay.OutsideTransaction)
	return d.proxy.quiet(ctx)
}

// cut ends what is left: first so that clients read how their queries have ended, then between two messages, then by
// closing sockets.
func (d *drain) cut() {
	d.proxy.entered(cutting)
	d.proxy.stop(relay.WhenIdle)
	d.proxy.cancelQueries()
	if d.quietFor(cancelled) {
		return
	}
	d.proxy.stop(relay.AtBoundary)
	if d.quietFor(farewell) {
		return
	}
	d.proxy.entered(closing)
	d.proxy.abort()
	d.quietFor(lastRecords)
}

// quietFor is quiet with a limit. The drain's own context may be over.
func (d *drain) quietFor(limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return d.proxy.quiet(ctx) == nil
}

// pause waits, or ends with the context.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// drain ends the process; the error has its exit code.
func (p *proxy) drain(ctx context.Context, signals <-chan os.Signal, handedOver bool) error {
	d := &drain{
		proxy:      p,
		readyDelay: p.config.Drain.ReadyDelay,
		grace:      p.config.Drain.Grace,
		startup:    p.config.Limits.StartupTimeout,
		handedOver: handedOver,
		impatient:  signals,
	}
	err := d.run(ctx)
	if err == nil {
		return nil
	}
	p.log.Warn().Err(err).Msg("the drain ended sessions in a query or a transaction")
	return &exit{code: exitExpired, err: err, silent: true}
}

// messages are what the log says of each step.
var messages = map[step]string{
	leaving:   "draining",
	lettingIn: "draining",
	finishing: "sessions end outside of a transaction",
	cutting:   "sessions are cut off",
	closing:   "connections are closed",
	drained:   "drained",
}

// The proxy as a drain sees it.

func (p *proxy) entered(s step) {
	if s == leaving || s == lettingIn {
		p.admin.SetPhase(admin.Draining)
		p.metrics.DrainBegan()
		p.ending.Store(true)
		p.supervisor.stopping()
	}
	level := zerolog.InfoLevel
	if s == cutting || s == closing {
		level = zerolog.WarnLevel
	}
	p.log.WithLevel(level).Str("step", string(s)).Int("sessions", p.sessions.Table().Len()).Msg(messages[s])
}

func (p *proxy) closeListeners() { p.listener.CloseListeners() }

func (p *proxy) comingIn() bool {
	return p.listener.Handling() > 0 || p.sessions.Table().ComingIn(time.Now().Add(-p.config.Limits.StartupTimeout)) > 0
}

func (p *proxy) refuseNew() { p.sessions.Table().Drain() }

func (p *proxy) stop(when relay.When) {
	p.sessions.Table().Stop(when, refusal.New(refusal.SessionDrained, "The proxy in front of the database is shutting down."))
}

func (p *proxy) cancelQueries() { p.sessions.CancelQueries() }

func (p *proxy) abort() {
	p.sessions.Table().Abort()
	p.listener.CloseConns()
}

func (p *proxy) busy() int { return p.sessions.Table().Busy() }

// quiet waits until every connection is closed, and then until every one is recorded.
func (p *proxy) quiet(ctx context.Context) error {
	if err := p.listener.Wait(ctx); err != nil {
		return err
	}
	return p.sessions.Wait(ctx)
}
