package main

import (
	"context"
	"os"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/admin"
	"pgmtls-proxy/internal/drain"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
)

// drain ends the process; the error has its exit code.
func (p *proxy) drain(ctx context.Context, signals <-chan os.Signal, handedOver bool) error {
	d := &drain.Drain{
		Target:       drainTarget{p},
		ReadyDelay:   p.config.Drain.ReadyDelay,
		Grace:        p.config.Drain.Grace,
		Startup:      p.startupsAtMost(),
		HandedOver:   handedOver,
		SecondSignal: signals,
	}
	err := d.Run(ctx)
	if err == nil {
		return nil
	}
	p.log.Warn().Err(err).Msg("the drain ended sessions in a query or a transaction")
	return &exit{code: exitExpired, err: err, silent: true}
}

// messages are what the log says of each step.
var messages = map[drain.Step]string{
	drain.Leaving:           "draining",
	drain.FinishingStartups: "draining",
	drain.Finishing:         "sessions end outside of a transaction",
	drain.Cutting:           "sessions are cut off",
	drain.Closing:           "connections are closed",
	drain.Drained:           "drained",
}

// drainTarget is the proxy as a drain sees it.
type drainTarget struct{ *proxy }

func (p drainTarget) Entered(step drain.Step) {
	if step == drain.Leaving || step == drain.FinishingStartups {
		p.admin.SetPhase(admin.Draining)
		p.metrics.DrainBegan()
		p.ending.Store(true)
		p.supervisor.stopping()
	}
	level := zerolog.InfoLevel
	if step == drain.Cutting || step == drain.Closing {
		level = zerolog.WarnLevel
	}
	p.log.WithLevel(level).Str("step", string(step)).Int("sessions", p.sessions.Table().Len()).Msg(messages[step])
}

func (p drainTarget) CloseListeners() { p.listener.CloseListeners() }

func (p drainTarget) StartingUp() bool {
	return p.listener.Handling() > 0 || p.sessions.Table().StartingUp(time.Now().Add(-p.startupsAtMost())) > 0
}

// startupsAtMost is how long a process that has handed its sockets over waits for clients that are still on their way in. One
// that takes longer is told to come again, and then meets the successor.
func (p *proxy) startupsAtMost() time.Duration {
	return min(p.config.Limits.StartupTimeout, 10*time.Second)
}

func (p drainTarget) RefuseNew() { p.sessions.Table().Drain() }

func (p drainTarget) Stop(when relay.When) {
	p.sessions.Table().Stop(when, refusal.New(refusal.SessionDrained, "The proxy in front of the database is shutting down."))
}

func (p drainTarget) CancelQueries(ctx context.Context) { p.sessions.CancelQueries(ctx) }

func (p drainTarget) Abort() {
	p.sessions.Table().Abort()
	p.listener.CloseConns()
}

func (p drainTarget) Busy() int { return p.sessions.Table().Busy() }

// Quiet waits until every connection is closed, and then until every one is recorded.
func (p drainTarget) Quiet(ctx context.Context) error {
	if err := p.listener.Wait(ctx); err != nil {
		return err
	}
	return p.sessions.Wait(ctx)
}
