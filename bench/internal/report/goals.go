package report

import (
	"fmt"
	"strings"

	"pgmtls-proxy/bench/internal/peers"
)

// goal is one thing that the proxy has to reach: a ratio to a peer, or a value.
type goal struct {
	text     string
	scenario Scenario
	size     int // 0: the only size, or the largest
	metric   Metric
	to       string // a peer; bestPeer; empty: the value itself
	atLeast  bool   // else at most
	bound    float64
}

// bestPeer is whichever peer has the lowest median.
const bestPeer = "the best peer"

// goals are what the proxy was built to reach. Values are those of a machine with 2 cores.
var goals = []goal{
	{"CPU per small transaction, c=1", PgbenchSimple, 1, CPU, peers.PgBouncer, false, 0.9},
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.PgBouncer, false, 0.9},
	{"CPU per small transaction, c=32", PgbenchSimple, 32, CPU, peers.PgBouncer, false, 0.75},
	{"tps, c=1", PgbenchSimple, 1, Rate, peers.PgBouncer, true, 1.05},
	{"tps, c=8", PgbenchSimple, 8, Rate, peers.PgBouncer, true, 1.05},
	{"tps, c=32", PgbenchSimple, 32, Rate, peers.PgBouncer, true, 1.2},
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.Nginx, false, 0.8},
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.HAProxy, false, 0.75},
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.Stunnel, false, 0.6},
	{"p99 of small queries, c=8", QueriesSimple, 8, P99, bestPeer, false, 1},
	{"p99 of small queries, c=32", QueriesSimple, 32, P99, bestPeer, false, 1},
	{"tps, c=8", PgbenchSimple, 8, Rate, OwnTLS, true, 0.75},
	{"COPY OUT rate", CopyOut, 0, Throughput, OwnTLS, true, 1.2},
	{"COPY IN rate", CopyIn, 0, Throughput, OwnTLS, true, 1},
	{"bulk CPU, down", BulkDown, 0, BulkCPU, peers.Nginx, false, 0.8},
	{"bulk CPU, up", BulkUp, 0, BulkCPU, peers.Nginx, false, 0.8},
	{"KiB of an idle session", Idle, 0, PerSession, "", false, 16},
	{"KiB of an idle session after GC", Idle, 0, Rested, "", false, 12},
	{"CPU of an ECDSA handshake", HandshakesECDSA, 0, CPU, peers.Nginx, false, 0.75},
	{"p99 of small queries beside a bulk copy", Mixed, 0, P99, peers.Nginx, false, 1},
}

// Goals is the table of what was reached, in Markdown.
func (r *Results) Goals() string {
	var text strings.Builder
	text.WriteString("\n## Goals\n\nRatios of " + peers.Proxy + " to the named one.\n\n| goal | against | wanted | measured | reached |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		value, against, ok := r.reach(g)
		sign, reached := "≤", value <= g.bound
		if g.atLeast {
			sign, reached = "≥", value >= g.bound
		}
		verdict := map[bool]string{true: "yes", false: "**no**"}[reached]
		if !ok {
			verdict = "not measured"
		}
		fmt.Fprintf(&text, "| %s | %s | %s %g | %s | %s |\n", g.text, against, sign, g.bound, cell(value, 2, ok), verdict)
	}
	return text.String()
}

// reach measures a goal, and says against whom.
func (r *Results) reach(g goal) (value float64, against string, ok bool) {
	size := g.size
	if size == 0 {
		for _, s := range r.sizes(g.scenario) {
			size = max(size, s)
		}
	}
	against = g.to
	switch g.to {
	case "":
		value, ok = r.median(g.scenario, size, peers.Proxy, g.metric)
		return value, against, ok
	case bestPeer:
		best, found := r.best(g.scenario, size, g.metric)
		if !found {
			return 0, against, false
		}
		against = best
	}
	value, ok = r.ratio(g.scenario, size, g.metric, peers.Proxy, against)
	return value, against, ok
}

// best is the peer with the lowest median.
func (r *Results) best(s Scenario, size int, m Metric) (name string, ok bool) {
	lowest := 0.0
	for _, peer := range []string{peers.PgBouncer, peers.Stunnel, peers.HAProxy, peers.Nginx} {
		value, measured := r.median(s, size, peer, m)
		if measured && (!ok || value < lowest) {
			name, lowest, ok = peer, value, true
		}
	}
	return name, ok
}
