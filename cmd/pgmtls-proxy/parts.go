package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// partsLimit is how long the parts have to end when the process does. One that hangs, in a read of a network file system for
// example, must not keep the process.
const partsLimit = 3 * time.Second

// parts are the goroutines of a running proxy. The first that fails ends all of them.
type parts struct {
	ctx    context.Context // their; its cause is the failure
	cancel context.CancelFunc
	group  *errgroup.Group
	log    zerolog.Logger
	ending atomic.Bool
}

func newParts(ctx context.Context, log zerolog.Logger) *parts {
	p := &parts{log: log}
	ctx, p.cancel = context.WithCancel(ctx)
	p.group, p.ctx = errgroup.WithContext(ctx)
	return p
}

// start runs a part. It ends when its context does, or earlier if there is nothing left to do.
func (p *parts) start(name string, run func(context.Context) error) {
	p.group.Go(func() error {
		err := run(p.ctx)
		switch {
		case err == nil || p.ctx.Err() != nil:
			return nil // it was told to end
		case p.ending.Load():
			p.log.Warn().Err(err).Str("part", name).Msg("a part of the process failed during the drain, which continues")
			return nil
		}
		return fmt.Errorf("%s: %w", name, err)
	})
}

// mayFail records that the process is about to end: a part that fails from now on ends no other, so that the drain is not cut short.
func (p *parts) mayFail() { p.ending.Store(true) }

// end ends the parts and waits for them, up to partsLimit.
func (p *parts) end() {
	p.cancel()
	ended := make(chan struct{})
	go func() { // outlives this call only when the process ends
		_ = p.group.Wait() // the first error has ended the context, as its cause
		close(ended)
	}()
	limit := time.NewTimer(partsLimit)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
		p.log.Warn().Dur("waited_ms", partsLimit).Msg("a part of the process did not end in time; the process exits")
	}
}
