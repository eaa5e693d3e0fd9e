// Package report turns what was measured into files: JSON with every sample, Markdown with tables of medians and of ratios
// to a named reference, and charts as SVG.
//
// It measures nothing. Everything that it prints is computed from a [Results].
package report

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pgmtls-proxy/bench/internal/stats"
)

// Scenario is a kind of work. Its value is the name in the JSON file.
type Scenario string

// The scenarios.
const (
	QueriesSimple    Scenario = "queries/simple"   // against the dummy, size: clients
	QueriesPrepared  Scenario = "queries/prepared" // the same
	PgbenchSimple    Scenario = "pgbench/simple"   // against PostgreSQL, size: clients
	PgbenchPrepared  Scenario = "pgbench/prepared" // the same
	BulkDown         Scenario = "bulk/down"        // against the dummy, size: sessions
	BulkUp           Scenario = "bulk/up"
	CopyOut          Scenario = "copy/out" // against PostgreSQL
	CopyIn           Scenario = "copy/in"
	HandshakesECDSA  Scenario = "handshakes/ecdsa" // size: clients
	HandshakesRSA    Scenario = "handshakes/rsa"
	Mixed            Scenario = "mixed"              // small queries beside one bulk copy, size: clients of the former
	Idle             Scenario = "idle"               // size: sessions
	GrowthSessions   Scenario = "growth/sessions"    // size: idle sessions beside the busy ones
	GrowthRules      Scenario = "growth/rules"       // small queries, size: rules
	GrowthRulesOpens Scenario = "growth/rules/opens" // openings of sessions, size: rules
	GrowthCores      Scenario = "growth/cores"       // small queries, size: processors that the proxy may use
	Removal          Scenario = "removal"            // half of the sessions lose their permission, size: sessions
)

// Metric is something that was measured, with its unit. Its value is the name in the JSON file.
type Metric string

// The metrics. An operation is a query or the opening of a session; CPU and switches are the proxy's alone.
const (
	Rate         Metric = "operations_per_second"
	P50          Metric = "p50_us"
	P99          Metric = "p99_us"
	Mean         Metric = "mean_us"
	CPU          Metric = "cpu_us_per_operation"
	Switches     Metric = "switches_per_operation"
	Throughput   Metric = "mb_per_second" // 10^6 bytes of plaintext; in mixed, the bulk copy's
	BulkCPU      Metric = "cpu_s_per_gb"
	BulkSwitches Metric = "switches_per_gb"
	Memory       Metric = "kib"                // of the process with its sessions
	PerSession   Metric = "kib_per_session"    // what a session added
	Rested       Metric = "kib_per_session_gc" // the same after the Go runtime has collected
	Worst        Metric = "worst_us"           // the slowest operation, undisturbed
	WorstDuring  Metric = "worst_during_us"    // the slowest while sessions of others are ended
	Stall        Metric = "stall_us"           // the difference, or 0
	Ended        Metric = "ended_ms"           // from the write of a policy to the end of the last session that it forbids
)

// Values are the figures of one measurement.
type Values map[Metric]float64

// Sample is one measurement of one proxy.
type Sample struct {
	Scenario Scenario `json:"scenario"`
	Size     int      `json:"size"`
	Proxy    string   `json:"proxy"`
	Round    int      `json:"round"`
	Values   Values   `json:"values"`
}

// Machine is where it was measured.
type Machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	MemoryGiB  float64 `json:"memory_gib"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	PostgreSQL string  `json:"postgresql"`
	Libpq      string  `json:"libpq"` // that pgbench used
}

// Settings are how it was measured.
type Settings struct {
	Quick  bool          `json:"quick"`
	Rounds int           `json:"rounds"`
	Window time.Duration `json:"window_ns"`
	Idle   int           `json:"idle_sessions"`
}

// Program is one that took part.
type Program struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	TLS     string `json:"tls"` // what it agreed on with the bench's client
}

// Results are everything that one run found out.
type Results struct {
	Date     time.Time `json:"date"`
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Programs []Program `json:"programs"`
	Notes    []string  `json:"notes"` // what was left out, and why
	Samples  []Sample  `json:"samples"`
}

// series is one metric by round.
func (r *Results) series(s Scenario, size int, proxy string, m Metric) stats.ByRound {
	series := stats.ByRound{}
	for _, sample := range r.Samples {
		if sample.Scenario != s || sample.Size != size || sample.Proxy != proxy {
			continue
		}
		if value, ok := sample.Values[m]; ok {
			series[sample.Round] = value
		}
	}
	return series
}

// median of a metric over the rounds; false when it was not measured.
func (r *Results) median(s Scenario, size int, proxy string, m Metric) (float64, bool) {
	values := r.values(s, size, proxy, m)
	return stats.Median(values), len(values) > 0
}

// ratios are those of the rounds, sorted; none when the two have no round in common.
func (r *Results) ratios(s Scenario, size int, m Metric, of, to string) []float64 {
	return stats.Ratios(r.series(s, size, of, m), r.series(s, size, to, m))
}

// values are a metric's in all rounds, sorted.
func (r *Results) values(s Scenario, size int, proxy string, m Metric) []float64 {
	return slices.Sorted(maps.Values(r.series(s, size, proxy, m)))
}

// sizes lists the sizes of a scenario in the order in which they were measured.
func (r *Results) sizes(s Scenario) []int {
	return distinct(r, s, func(sample Sample) int { return sample.Size })
}

// proxies lists who took part in a scenario, in the order of [Results.Programs].
func (r *Results) proxies(s Scenario) []string {
	measured := map[string]bool{}
	for _, name := range distinct(r, s, func(sample Sample) string { return sample.Proxy }) {
		measured[name] = true
	}
	var names []string
	for _, program := range r.Programs {
		if measured[program.Name] {
			names = append(names, program.Name)
		}
	}
	return names
}

func distinct[T comparable](r *Results, s Scenario, field func(Sample) T) []T {
	var values []T
	seen := map[T]bool{}
	for _, sample := range r.Samples {
		if value := field(sample); sample.Scenario == s && !seen[value] {
			seen[value] = true
			values = append(values, value)
		}
	}
	return values
}

// Write writes results.json, results.md and the charts into the directory.
func (r *Results) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	errs := []error{
		os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "results.md"), []byte(r.markdown()), 0o644),
	}
	for _, c := range r.charts() {
		errs = append(errs, os.WriteFile(filepath.Join(dir, c.file), []byte(c.svg()), 0o644))
	}
	return errors.Join(errs...)
}
