package main

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"time"

	"pgmtls-proxy/bench/internal/load"
	"pgmtls-proxy/bench/internal/peers"
	"pgmtls-proxy/bench/internal/report"
	"pgmtls-proxy/bench/internal/stats"
)

const (
	// removalWindow is how long the slowest query is looked for, without and with a removal.
	removalWindow = 1500 * time.Millisecond
	// removalPatience bounds the wait for the end of the last session.
	removalPatience = 20 * time.Second
)

// measureRemoval measures what it costs those who stay that many others lose their permission at once, and how soon these
// are gone. Only this repository's program can do that.
func measureRemoval(ctx context.Context, b *bench) error {
	if !b.wanted(report.Removal) {
		return nil
	}
	size := 5000
	if b.quick {
		size = 500
	}
	if most := b.files*3/8 - 300; size > most {
		b.note("%s with %d sessions: the limit of %d open files allows %d", report.Removal, size, b.files, most)
		size = most
	}
	b.say("%s, %d", report.Removal, size)
	for round := range b.options.rounds {
		w := work{report.Removal, size, func(ctx context.Context, p *proxy) (report.Values, error) { return b.remove(ctx, p, size) }}
		// A fresh proxy each time, which has been told of no removal.
		p, err := b.start(ctx, peers.Kinds(b.built)[0], scene{sessions: size + 200})
		if err != nil {
			return err
		}
		if err := errors.Join(b.once(ctx, p, w, round), p.process.Stop()); err != nil {
			return err
		}
	}
	return nil
}

// remove opens sessions and revokes the certificate of half of them.
func (b *bench) remove(ctx context.Context, p *proxy, size int) (report.Values, error) {
	var stay, leave load.Crowd
	defer stay.Leave()
	defer leave.Leave()
	leaver := p.target
	leaver.TLS = p.target.TLS.Clone()
	leaver.TLS.Certificates = []tls.Certificate{b.leaver.TLS()}
	if err := errors.Join(stay.Grow(ctx, p.target, size/2), leave.Grow(ctx, leaver, size/2)); err != nil {
		return nil, err
	}
	before, err := b.slowest(ctx, p, nil)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	var took time.Duration
	during, err := b.slowest(ctx, p, func() error {
		written := time.Now()
		go func() {
			err := leave.AwaitEnd(written.Add(removalPatience))
			took = time.Since(written)
			ended <- err
		}()
		return p.site.Revoke(b.leaver.Cert)
	})
	if err != nil {
		return nil, err
	}
	if err := <-ended; err != nil {
		return nil, err
	}
	return report.Values{
		report.Ended:       float64(took.Milliseconds()),
		report.Worst:       microseconds(before),
		report.WorstDuring: microseconds(during),
		report.Stall:       microseconds(max(during-before, 0)),
	}, nil
}

// slowest asks small queries for a while and returns how long the slowest took. Something may be done when they have begun.
func (b *bench) slowest(ctx context.Context, p *proxy, then func() error) (time.Duration, error) {
	window := load.Window{Warmup: warmup, Length: removalWindow, Edge: func() error {
		once := then
		then = nil
		if once == nil {
			return nil
		}
		return once()
	}}
	recorders, _, err := window.Watch(ctx, slices.Repeat([]load.Worker{p.target.Queries(load.Simple)}, churners)...)
	if err != nil {
		return 0, err
	}
	var all stats.Histogram
	for _, r := range recorders {
		all.Add(&r.Latency)
	}
	return all.Quantile(1), nil
}
