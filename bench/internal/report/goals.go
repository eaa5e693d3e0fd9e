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
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.PgBouncer, false, 0.7},
	{"CPU per small transaction, c=32", PgbenchSimple, 32, CPU, peers.PgBouncer, false, 0.65},
	{"tps, c=1", PgbenchSimple, 1, Rate, peers.PgBouncer, true, 1.05},
	{"tps, c=8", PgbenchSimple, 8, Rate, peers.PgBouncer, true, 1.1},
	{"tps, c=32", PgbenchSimple, 32, Rate, peers.PgBouncer, true, 1.2},
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.Nginx, false, 0.8},
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.HAProxy, false, 0.75},
	{"CPU per small transaction, c=8", PgbenchSimple, 8, CPU, peers.Stunnel, false, 0.6},
	{"p99 of small queries, c=8", QueriesSimple, 8, P99, bestPeer, false, 1},
	{"p99 of small queries, c=32", QueriesSimple, 32, P99, bestPeer, false, 1},
	{"tps, c=8", PgbenchSimple, 8, Rate, OwnTLS, true, 0.75},
	{"COPY OUT rate", CopyOut, 0, Throughput, OwnTLS, true, 1.2},
	{"COPY IN rate", CopyIn, 0, Throughput, OwnTLS, true, 1},
	{"bulk CPU, four sessions down", BulkDown, 4, BulkCPU, peers.Nginx, false, 0.75},
	{"bulk CPU, four sessions up", BulkUp, 4, BulkCPU, peers.Nginx, false, 0.75},
	{"KiB of an idle session", Idle, 0, PerSession, "", false, 12},
	{"KiB of an idle session after GC", Idle, 0, Rested, "", false, 10},
	{"CPU of an ECDSA handshake", HandshakesECDSA, 0, CPU, peers.Nginx, false, 0.75},
	{"p99 of small queries beside a bulk copy", Mixed, 0, P99, peers.Nginx, false, 1},
	{"ms until the last of half the sessions has ended", Removal, 0, Ended, "", false, 1000},
	{"µs that this adds to the slowest query of the others", Removal, 0, Stall, "", false, 50_000},
}

// Goals is the table of what was reached, in Markdown. A goal is reached or missed only if every round says the same.
func (r *Results) Goals() string {
	var text strings.Builder
	text.WriteString("\n## Goals\n\nRatios of " + peers.Proxy + " to the named one. Where some rounds reach a goal and others don't, it is not established.\n\n" +
		"| goal | against | wanted | measured | reached |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		values, against := r.reach(g)
		sign := "≤"
		if g.atLeast {
			sign = "≥"
		}
		fmt.Fprintf(&text, "| %s | %s | %s %g | %s | %s |\n", g.text, against, sign, g.bound, spread(values), g.verdict(values))
	}
	return text.String()
}

// verdict says what the rounds say together.
func (g goal) verdict(values []float64) string {
	reached := 0
	for _, value := range values {
		if value == g.bound || g.atLeast == (value > g.bound) {
			reached++
		}
	}
	switch {
	case len(values) == 0:
		return "not measured"
	case reached == len(values):
		return "yes"
	case reached == 0:
		return "**no**"
	}
	return fmt.Sprintf("not established (%d of %d rounds)", reached, len(values))
}

// reach returns what the rounds measured of a goal, sorted, and against whom.
func (r *Results) reach(g goal) (values []float64, against string) {
	size := g.size
	if size == 0 {
		for _, s := range r.sizes(g.scenario) {
			size = max(size, s)
		}
	}
	switch g.to {
	case "":
		return r.values(g.scenario, size, peers.Proxy, g.metric), ""
	case bestPeer:
		best, found := r.best(g.scenario, size, g.metric)
		if !found {
			return nil, bestPeer
		}
		return r.ratios(g.scenario, size, g.metric, peers.Proxy, best), best
	}
	return r.ratios(g.scenario, size, g.metric, peers.Proxy, g.to), g.to
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
