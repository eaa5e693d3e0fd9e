package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"pgmtls-proxy/internal/admin"
)

// run serves until a signal or a successor, and drains. Every goroutine of the process that serves no connection is one of its
// parts, and has ended when it returns.
func (p *proxy) run(ctx context.Context, sockets *sockets) error {
	parts := newParts(ctx, p.log)
	defer parts.end()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	reloads := make(chan os.Signal, 1) // a storm of SIGHUP is one
	signal.Notify(reloads, syscall.SIGHUP)
	defer signal.Stop(reloads)

	adminHTTP := p.admin.HTTP()
	defer func() { _ = adminHTTP.Close() }() // of a listener that is not needed any more
	answer := func(context.Context) error { return admin.Serve(adminHTTP, sockets.admin, p.shares.admin) }
	if sockets.predecessor == nil { // otherwise the predecessor answers on the same socket, and is ready
		parts.start("admin", answer)
	}
	p.keeper.Load(parts.ctx)
	if err := p.mayReplace(sockets); err != nil {
		return &exit{code: exitFailure, err: err}
	}
	looks := make(chan os.Signal) // unbuffered: see supervisor.follow
	parts.start("reload signals", func(ctx context.Context) error { p.supervisor.follow(ctx, reloads, looks); return nil })
	parts.start("policy", func(ctx context.Context) error { return p.keeper.Run(ctx, looks) })
	parts.start("sweep", p.sessions.Sweep)
	parts.start("session lifetimes", p.sessions.ExpireSessions)
	parts.start("memory", p.sessions.Tidy)
	parts.start("listeners", func(ctx context.Context) error { return p.listener.Serve(ctx, sockets.listeners...) })
	p.admin.SetPhase(admin.Serving)
	if sockets.predecessor != nil {
		parts.start("admin", answer)
	}

	p.replace(sockets.predecessor)
	door, successors, err := p.openDoor(parts, sockets)
	if err != nil {
		if sockets.predecessor == nil {
			return p.fail(err)
		}
		p.log.Error().Err(err).Msg("this process can't hand over to a successor")
	}
	if door != nil {
		defer door.Close()
	}
	p.started(sockets.listeners, sockets.admin)
	p.supervisor.ready()
	parts.start("supervisor", func(ctx context.Context) error { p.supervisor.watch(ctx); return nil })

	select {
	case <-parts.ctx.Done():
		return p.fail(context.Cause(parts.ctx))
	case s := <-signals:
		p.log.Info().Stringer("signal", s).Msg("a signal ends the process")
		if door != nil {
			door.Close()
		}
		parts.mayFail()
		return p.drain(ctx, signals, false)
	case successor := <-successors:
		parts.mayFail()
		p.handOver(parts, successor, adminHTTP)
		return p.drain(ctx, signals, true)
	}
}

// fail ends the process at once.
func (p *proxy) fail(err error) error {
	p.listener.CloseListeners()
	p.listener.CloseConns()
	return &exit{code: exitFailure, err: err}
}
