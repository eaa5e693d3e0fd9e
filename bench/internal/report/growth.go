package report

import (
	"fmt"
	"strings"

	"pgmtls-proxy/bench/internal/peers"
	"pgmtls-proxy/bench/internal/stats"
)

// The machine of the estimate, and how busy it may be.
const (
	estimateCores = 16
	estimateShare = 0.7
)

// growth writes what more sessions and more rules cost, and what follows for a larger machine.
func (r *Results) growth(text *strings.Builder) {
	sizes := r.sizes(GrowthSessions)
	if len(sizes) == 0 {
		return
	}
	text.WriteString("\n## Growth\n\n" + peers.Proxy + " alone, 32 sessions with small simple queries (dummy database) beside idle ones.\n\n" +
		"| idle sessions | per second | p99 µs | CPU µs | MiB |\n|---|---|---|---|---|\n")
	for _, size := range sizes {
		v := r.own(GrowthSessions, size)
		fmt.Fprintf(text, "| %d | %.0f | %.0f | %.1f | %.0f |\n", size, v[Rate], v[P99], v[CPU], v[Memory]/1024)
	}
	text.WriteString("\n| rules | small queries, CPU µs | opening of a session, CPU µs |\n|---|---|---|\n")
	for _, size := range r.sizes(GrowthRules) {
		fmt.Fprintf(text, "| %d | %.1f | %.0f |\n", size, r.own(GrowthRules, size)[CPU], r.own(GrowthRulesOpens, size)[CPU])
	}
	if sizes := r.sizes(GrowthCores); len(sizes) > 0 {
		text.WriteString("\n| processors for the proxy | small queries per second | p99 µs | CPU µs |\n|---|---|---|---|\n")
		for _, size := range sizes {
			v := r.own(GrowthCores, size)
			fmt.Fprintf(text, "| %d | %.0f | %.0f | %.1f |\n", size, v[Rate], v[P99], v[CPU])
		}
	}
	r.estimate(text)
}

// own are the medians of the proxy's own figures.
func (r *Results) own(s Scenario, size int) Values {
	values := Values{}
	for _, m := range []Metric{Rate, P99, CPU, Memory} {
		if value, ok := r.median(s, size, peers.Proxy, m); ok {
			values[m] = value
		}
	}
	return values
}

// line is a metric as a function of the number of idle sessions. More sessions make nothing cheaper: a line that falls is
// noise, and is taken to be flat.
func (r *Results) line(m Metric) stats.Line {
	var points []stats.Point
	for _, size := range r.sizes(GrowthSessions) {
		points = append(points, stats.Point{X: float64(size), Y: r.own(GrowthSessions, size)[m]})
	}
	line := stats.Fit(points)
	if line.Slope < 0 {
		return stats.Line{Base: stats.Mean(points)}
	}
	return line
}

// estimate writes the formulas with their numbers in them.
func (r *Results) estimate(text *strings.Builder) {
	cpu, memory := r.line(CPU), r.line(Memory)
	fmt.Fprintf(text, "\n### Estimate: one machine with %d cores\n\n", estimateCores)
	fmt.Fprintf(text, "Computed, not measured: %d cores like these, given to the proxy alone and %.0f %% busy, and every core's work as cheap as here (this machine has %d cores)%s. "+
		"Lines are least squares through the tables above, flat where they would fall; N is the number of idle sessions.\n\n", estimateCores, 100*estimateShare, r.Machine.Cores, r.perCore())
	fmt.Fprintf(text, "- CPU of a small query: %.1f µs + %.3f µs · N/1000. Memory: %.0f MiB + %.1f KiB · N.\n", cpu.Base, 1000*cpu.Slope, memory.Base/1024, memory.Slope)
	const perSecond = estimateCores * estimateShare * 1e6
	for _, idle := range []float64{1_000, 10_000, 50_000} {
		fmt.Fprintf(text, "- %.0f idle sessions: %d · %.1f · 10⁶ / %.1f µs = %.0f small queries a second, %.0f MiB.\n",
			idle, estimateCores, estimateShare, cpu.At(idle), perSecond/cpu.At(idle), memory.At(idle)/1024)
	}
	for _, size := range r.sizes(HandshakesECDSA) {
		if opening := r.own(HandshakesECDSA, size)[CPU]; opening > 0 {
			fmt.Fprintf(text, "- Openings of sessions (ECDSA): %d · %.1f · 10⁶ / %.0f µs = %.0f a second.\n", estimateCores, estimateShare, opening, perSecond/opening)
		}
	}
	if bulk, ok := r.median(BulkDown, 1, peers.Proxy, BulkCPU); ok {
		fmt.Fprintf(text, "- Bulk to clients: %d · %.1f / %.2f s/GB = %.0f GB/s, more than most networks.\n", estimateCores, estimateShare, bulk, estimateCores*estimateShare/bulk)
	}
}

// perCore says what the second processor cost, where it was measured.
func (r *Results) perCore() string {
	sizes := r.sizes(GrowthCores)
	if len(sizes) < 2 {
		return ""
	}
	few, many := sizes[0], sizes[len(sizes)-1]
	base := r.own(GrowthCores, few)[CPU]
	if base == 0 {
		return ""
	}
	return fmt.Sprintf("; with %d processors a small query cost %.2f times as much as with %d", many, r.own(GrowthCores, many)[CPU]/base, few)
}
