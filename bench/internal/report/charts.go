package report

import (
	"fmt"
	"strings"

	"pgmtls-proxy/bench/internal/peers"
)

// part is the scenarios and sizes of a metric that one chart shows.
type part struct {
	scenario Scenario
	metric   Metric
	title    string // of the group; %d is the size
}

// charts are the pictures of what was measured; a chart of nothing is left out.
func (r *Results) charts() []chart {
	all := []chart{
		r.chart(chart{file: "cpu.svg", title: "Proxy CPU per transaction", unit: "µs, pgbench -S; less is better", digits: 1},
			part{PgbenchSimple, CPU, "simple protocol, %d clients"}),
		r.chart(chart{file: "bulk.svg", title: "Proxy CPU of bulk transfers", unit: "s/GB, one session; less is better", digits: 2},
			part{BulkDown, BulkCPU, "to the client"}, part{BulkUp, BulkCPU, "to the server"}),
		r.chart(chart{file: "memory.svg", title: "Memory of an idle session", unit: "KiB; less is better", digits: 1},
			part{Idle, PerSession, "%d sessions"}, part{Idle, Rested, "%d sessions, after garbage collection"}),
		r.chart(chart{file: "handshakes.svg", title: "Proxy CPU of opening a session", unit: "µs, full mutual TLS 1.3 handshake; less is better"},
			part{HandshakesECDSA, CPU, "ECDSA P-256"}, part{HandshakesRSA, CPU, "RSA-2048"}),
		r.chart(chart{file: "latency.svg", title: "Small queries beside a bulk copy at full speed", unit: "µs, 99th percentile; less is better"},
			part{Mixed, P99, "%d sessions with small queries"}),
	}
	var drawn []chart
	for _, c := range all {
		if len(c.groups) > 0 {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

// chart fills in the bars.
func (r *Results) chart(c chart, parts ...part) chart {
	for _, p := range parts {
		for _, size := range r.sizes(p.scenario) {
			g := group{title: p.title}
			if strings.Contains(p.title, "%d") {
				g.title = fmt.Sprintf(p.title, size)
			}
			for _, proxy := range r.proxies(p.scenario) {
				if value, ok := r.median(p.scenario, size, proxy, p.metric); ok {
					g.bars = append(g.bars, bar{label: proxy, value: value, own: proxy == peers.Proxy})
				}
			}
			if len(g.bars) > 0 {
				c.groups = append(c.groups, g)
			}
		}
	}
	return c
}
