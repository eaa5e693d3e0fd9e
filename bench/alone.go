package main

import (
	"context"
	"errors"
	"slices"

	"pgmtls-proxy/bench/internal/dummy"
	"pgmtls-proxy/bench/internal/load"
	"pgmtls-proxy/bench/internal/report"
)

// Sessions at once where the number is not varied.
const (
	churners = 8
	mixers   = 8
	copiers  = 4
)

// measureAlone measures the proxies in front of the dummy database.
func measureAlone(ctx context.Context, b *bench) (err error) {
	if !b.wanted(report.QueriesSimple, report.QueriesPrepared, report.BulkDown, report.BulkUp, report.HandshakesECDSA, report.Mixed) {
		return nil
	}
	proxies, err := b.startAll(ctx, scene{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll(proxies)) }()
	var works []work
	for _, clients := range b.clients() {
		works = append(works,
			work{report.QueriesSimple, clients, b.queries(load.Simple, clients)},
			work{report.QueriesPrepared, clients, b.queries(load.Prepared, clients)})
	}
	works = append(works,
		work{report.BulkDown, 1, b.down(dummy.Down, 1)},
		work{report.BulkUp, 1, b.up(1)},
		work{report.BulkDown, copiers, b.down(dummy.Down, copiers)},
		work{report.BulkUp, copiers, b.up(copiers)},
		work{report.HandshakesECDSA, churners, b.openings},
		work{report.Mixed, mixers, b.mixed})
	return b.all(ctx, proxies, works)
}

// measureRSA measures openings where the server's key is RSA.
func measureRSA(ctx context.Context, b *bench) (err error) {
	if !b.wanted(report.HandshakesRSA) {
		return nil
	}
	proxies, err := b.startAll(ctx, scene{server: b.rsa})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll(proxies)) }()
	return b.rounds(ctx, proxies, work{report.HandshakesRSA, churners, b.openings})
}

func (b *bench) all(ctx context.Context, proxies []*proxy, works []work) error {
	for _, w := range works {
		if err := b.rounds(ctx, proxies, w); err != nil {
			return err
		}
	}
	return nil
}

// queries asks for one row in each of so many sessions.
func (b *bench) queries(mode load.Mode, clients int) func(context.Context, *proxy) (report.Values, error) {
	return func(ctx context.Context, p *proxy) (report.Values, error) {
		w, err := b.watch(ctx, p, slices.Repeat([]load.Worker{p.target.Queries(mode)}, clients)...)
		if err != nil {
			return nil, err
		}
		return w.operations(), nil
	}
}

// down takes the rows of a statement, in each of so many sessions.
func (b *bench) down(statement string, sessions int) func(context.Context, *proxy) (report.Values, error) {
	return func(ctx context.Context, p *proxy) (report.Values, error) {
		w, err := b.watch(ctx, p, slices.Repeat([]load.Worker{p.target.Down(statement)}, sessions)...)
		if err != nil {
			return nil, err
		}
		return w.bulk(p), nil
	}
}

// up sends rows in each of so many sessions.
func (b *bench) up(sessions int) func(context.Context, *proxy) (report.Values, error) {
	return func(ctx context.Context, p *proxy) (report.Values, error) {
		w, err := b.watch(ctx, p, slices.Repeat([]load.Worker{p.target.Up(dummy.Up, dummy.Rows)}, sessions)...)
		if err != nil {
			return nil, err
		}
		return w.bulk(p), nil
	}
}

// openings opens sessions.
func (b *bench) openings(ctx context.Context, p *proxy) (report.Values, error) {
	w, err := b.watch(ctx, p, slices.Repeat([]load.Worker{p.target.Churn()}, churners)...)
	if err != nil {
		return nil, err
	}
	values := w.operations()
	delete(values, report.Switches) // those of a thread for each session are lost with it
	return values, nil
}

// mixed asks for rows one by one while another session takes them in bulk. What it costs can't be told apart.
func (b *bench) mixed(ctx context.Context, p *proxy) (report.Values, error) {
	workers := append(slices.Repeat([]load.Worker{p.target.Queries(load.Simple)}, mixers), p.target.Down(dummy.Down))
	w, err := b.watch(ctx, p, workers...)
	if err != nil {
		return nil, err
	}
	values := w.operations()
	delete(values, report.CPU)
	delete(values, report.Switches)
	values[report.Throughput] = w.bulk(p)[report.Throughput]
	return values, nil
}
