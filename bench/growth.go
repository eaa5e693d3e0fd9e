package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/bench/internal/load"
	"pgmtls-proxy/bench/internal/peers"
	"pgmtls-proxy/bench/internal/report"
)

// busy is how many sessions have work beside the idle ones.
const busy = 32

// measureIdle measures what idle sessions need, each proxy alone and fresh.
func measureIdle(ctx context.Context, b *bench) error {
	if !b.wanted(report.Idle) {
		return nil
	}
	for _, kind := range b.kinds {
		b.say("%s, %d: %s", report.Idle, b.idle, kind.Name)
		if err := b.measureCrowd(ctx, kind); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b.note("%s with %d idle sessions: %v", kind.Name, b.idle, err)
		}
	}
	return nil
}

func (b *bench) measureCrowd(ctx context.Context, kind peers.Kind) (err error) {
	p, err := b.start(ctx, kind, scene{sessions: b.idle + 200})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.process.Stop()) }()
	before, err := p.process.Memory()
	if err != nil {
		return err
	}
	var crowd load.Crowd
	defer crowd.Leave()
	if err := crowd.Grow(ctx, p.target, b.idle); err != nil {
		return err
	}
	// What the openings have left behind is collected right behind them.
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	perSession := func() (float64, error) {
		now, err := p.process.Memory()
		return float64(now-before) / 1024 / float64(b.idle), err
	}
	values := report.Values{}
	if values[report.PerSession], err = perSession(); err != nil {
		return err
	}
	if kind.Own && !b.quick {
		if err := pause(ctx, rest); err != nil {
			return err
		}
		if values[report.Rested], err = perSession(); err != nil {
			return err
		}
	}
	b.found.Samples = append(b.found.Samples, report.Sample{Scenario: report.Idle, Size: b.idle, Proxy: p.name, Values: values})
	return nil
}

// measureGrowth measures what more sessions and more rules cost this repository's program.
func measureGrowth(ctx context.Context, b *bench) error {
	kind := peers.Kinds(b.built)[0]
	if b.wanted(report.GrowthSessions) {
		if err := b.moreSessions(ctx, kind); err != nil {
			return err
		}
	}
	if b.wanted(report.GrowthRules, report.GrowthRulesOpens) {
		if err := b.moreRules(ctx, kind); err != nil {
			return err
		}
	}
	if b.wanted(report.GrowthCores) {
		return b.moreCores(ctx, kind)
	}
	return nil
}

// moreCores measures small queries with one processor for the proxy and with two, in turns. Clients and database have all.
func (b *bench) moreCores(ctx context.Context, kind peers.Kind) (err error) {
	var proxies []*proxy
	defer func() { err = errors.Join(err, stopAll(proxies)) }()
	counts := []int{1, 2}
	for _, cores := range counts {
		p, err := b.start(ctx, kind, scene{cores: cores})
		if err != nil {
			return err
		}
		proxies = append(proxies, p)
	}
	b.say("%s", report.GrowthCores)
	for round := range b.options.rounds {
		for i, cores := range counts {
			if err := b.once(ctx, proxies[i], work{report.GrowthCores, cores, b.queries(load.Simple, busy)}, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// moreSessions measures small queries beside more and more idle sessions of one process.
func (b *bench) moreSessions(ctx context.Context, kind peers.Kind) (err error) {
	// A session takes two descriptors of the proxy, which keeps some for itself and up to 1,024 for connections that are no
	// sessions, but no more than a quarter of what is there.
	most := max(b.files/2-650, b.files*3/8-100)
	p, err := b.start(ctx, kind, scene{sessions: most})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.process.Stop()) }()
	var crowd load.Crowd
	defer crowd.Leave()
	for _, idle := range b.crowds() {
		if idle > most-busy-churners {
			b.note("%d idle sessions: the limit of %d open files allows %d", idle, b.files, most-busy-churners)
			idle = most - busy - churners
		}
		if err := crowd.Grow(ctx, p.target, idle); err != nil {
			return fmt.Errorf("open %d idle sessions: %w", idle, err)
		}
		ask := b.queries(load.Simple, busy)
		err := b.rounds(ctx, []*proxy{p}, work{report.GrowthSessions, idle, func(ctx context.Context, p *proxy) (report.Values, error) {
			values, err := ask(ctx, p)
			if err != nil {
				return nil, err
			}
			memory, err := p.process.Memory()
			values[report.Memory] = float64(memory) / 1024
			return values, err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) crowds() []int {
	if b.quick {
		return []int{100, 1000}
	}
	return []int{100, 1000, 5000, 10000}
}

// moreRules measures small queries and openings with few rules and with many, in turns.
func (b *bench) moreRules(ctx context.Context, kind peers.Kind) (err error) {
	counts := []int{1, 60}
	var proxies []*proxy
	defer func() { err = errors.Join(err, stopAll(proxies)) }()
	for _, rules := range counts {
		p, err := b.start(ctx, kind, scene{rules: rules})
		if err != nil {
			return err
		}
		proxies = append(proxies, p)
	}
	b.say("%s", report.GrowthRules)
	for round := range b.options.rounds {
		for i, rules := range counts {
			ask := work{report.GrowthRules, rules, b.queries(load.Simple, busy)}
			open := work{report.GrowthRulesOpens, rules, b.openings}
			if err := errors.Join(b.once(ctx, proxies[i], ask, round), b.once(ctx, proxies[i], open, round)); err != nil {
				return err
			}
		}
	}
	return nil
}
