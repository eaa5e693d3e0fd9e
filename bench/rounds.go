package main

import (
	"context"
	"time"

	"pgmtls-proxy/bench/internal/load"
	"pgmtls-proxy/bench/internal/proc"
	"pgmtls-proxy/bench/internal/report"
	"pgmtls-proxy/bench/internal/stats"
)

// work is one figure's measurement, done with each proxy in turn.
type work struct {
	scenario report.Scenario
	size     int
	measure  func(ctx context.Context, p *proxy) (report.Values, error)
}

// rounds measures each proxy in each round. Each round begins with another proxy, so that a machine that grows slower
// burdens all alike. A proxy with which it fails is left out of the rest of this work, with a note.
func (b *bench) rounds(ctx context.Context, proxies []*proxy, w work) error {
	if !b.wanted(w.scenario) {
		return nil
	}
	b.say("%s, %d", w.scenario, w.size)
	failed := map[*proxy]bool{}
	for round := range b.options.rounds {
		for i := range proxies {
			p := proxies[(i+round)%len(proxies)]
			if failed[p] {
				continue
			}
			if err := b.once(ctx, p, w, round); err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				failed[p] = true
				b.note("%s with %s at %d: %v", p.name, w.scenario, w.size, err)
			}
		}
	}
	return nil
}

// once measures one proxy once, and keeps the sample.
func (b *bench) once(ctx context.Context, p *proxy, w work, round int) error {
	// Far more than it takes: a proxy that hangs must not hang the bench.
	ctx, cancel := context.WithTimeout(ctx, b.window+2*time.Minute)
	defer cancel()
	values, err := w.measure(ctx, p)
	if err == nil {
		b.found.Samples = append(b.found.Samples, report.Sample{Scenario: w.scenario, Size: w.size, Proxy: p.name, Round: round, Values: values})
	}
	return err
}

// watched is what workers did in one window, and what that cost the proxy.
type watched struct {
	recorders []*load.Recorder
	elapsed   time.Duration
	used      proc.Usage
}

// watch lets workers load a proxy for a window.
func (b *bench) watch(ctx context.Context, p *proxy, workers ...load.Worker) (watched, error) {
	var readings []proc.Usage
	window := load.Window{Warmup: warmup, Length: b.window, Edge: func() error {
		usage, err := p.usage()
		readings = append(readings, usage)
		return err
	}}
	recorders, elapsed, err := window.Watch(ctx, workers...)
	if err != nil {
		return watched{}, err
	}
	return watched{recorders, elapsed, readings[1].Sub(readings[0])}, nil
}

// usage is what the proxy has used; nothing where there is none.
func (p *proxy) usage() (proc.Usage, error) {
	if p.process == nil {
		return proc.Usage{}, nil
	}
	return p.process.Usage()
}

// operations are the figures of small operations. Recorders that counted bytes count elsewhere.
func (w watched) operations() report.Values {
	var all stats.Histogram
	for _, r := range w.recorders {
		all.Add(&r.Latency)
	}
	n := float64(all.Count())
	return report.Values{
		report.Rate:     n / w.elapsed.Seconds(),
		report.P50:      microseconds(all.Quantile(0.5)),
		report.P99:      microseconds(all.Quantile(0.99)),
		report.CPU:      microseconds(w.used.CPU) / max(n, 1),
		report.Switches: float64(w.used.Switches) / max(n, 1),
	}
}

// bulk are the figures of bytes moved. Without a proxy there is no use of one.
func (w watched) bulk(p *proxy) report.Values {
	moved := int64(0)
	for _, r := range w.recorders {
		moved += r.Bytes
	}
	values := report.Values{report.Throughput: float64(moved) / 1e6 / w.elapsed.Seconds()}
	if p.process != nil && moved > 0 {
		values[report.BulkCPU] = w.used.CPU.Seconds() / float64(moved) * 1e9
		values[report.BulkSwitches] = float64(w.used.Switches) / float64(moved) * 1e9
	}
	return values
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
