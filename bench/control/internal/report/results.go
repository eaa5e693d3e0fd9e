// Package report makes of what was measured what is kept: JSON with every sample, and a table for people.
//
// It measures nothing; what the figures mean is said where they are printed.
package report

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The files in the directory of results.
const (
	JSON     = "control.json"
	Markdown = "control.md"
)

// Latencies are durations in milliseconds, to the tenth, in the order in which they were measured.
type Latencies []float64

// Add adds one.
func (l *Latencies) Add(d time.Duration) {
	*l = append(*l, math.Round(float64(d)/float64(time.Millisecond)*10)/10)
}

// Quantile is the smallest of the values that the share q (0 to 1) of all does not exceed: exact, by rank. It is 0 of
// none.
func (l Latencies) Quantile(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Seconds is a duration in seconds, to the millisecond.
func Seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// MiB is a number of bytes in MiB, to the tenth.
func MiB(bytes int64) float64 { return math.Round(float64(bytes)/(1<<20)*10) / 10 }

// Series is one database's changes, one after the other.
type Series struct {
	Authorized Latencies `json:"authorized_ms"` // from the request to make a rule until it is seen as Authorized
	Applied    Latencies `json:"applied_ms"`    // until the moment at which the proxy followed it, by the proxy's word
	Gone       Latencies `json:"gone_ms"`       // from the request to delete it until it is seen to be gone
}

// Rest is what the daemon needs when nothing is asked of it.
type Rest struct {
	CPU      float64 `json:"cpu_s"`
	Resident float64 `json:"resident_mib"`
	Peak     float64 `json:"peak_mib"` // since its start
}

// Store is its size on disk.
type Store struct {
	All      float64 `json:"all_mib"`      // with the log of etcd, whose files have 64 MB each from the beginning
	Database float64 `json:"database_mib"` // the file of its database alone
}

// Many is what changes at a rate have given.
type Many struct {
	Real     Latencies `json:"real_authorized_ms"`     // of databases with a real proxy, from the planned moment of the request
	StandIns Latencies `json:"stand_in_authorized_ms"` // of the others
	Errors   int       `json:"errors"`

	Took       float64 `json:"took_s"`        // from the first request until the last rule was seen as Authorized
	CPU        float64 `json:"cpu_s"`         // of the daemon
	ProxiesCPU float64 `json:"proxies_cpu_s"` // of the proxies, real ones and stand-ins
	ClientsCPU float64 `json:"clients_cpu_s"`
	OthersCPU  float64 `json:"others_cpu_s"` // of whatever else runs on the machine
	Resident   float64 `json:"resident_mib"` // of the daemon at the end
	Peak       float64 `json:"peak_mib"`     // since its start

	StoreBefore Store `json:"store_before"`
	StoreAfter  Store `json:"store_after"`
}

// Start is one start of the daemon.
type Start struct {
	Answers  float64 `json:"answers_s"` // until the first request was answered
	All      float64 `json:"all_s"`     // until every proxy was served
	CPU      float64 `json:"cpu_s"`     // until then
	Resident float64 `json:"resident_mib"`
	Peak     float64 `json:"peak_mib"`
}

// Machine is where it was measured.
type Machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	MemoryGiB  float64 `json:"memory_gib"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	FileSystem string  `json:"file_system"`      // that the store is on
	Load       string  `json:"load_average_1_m"` // before the run
}

// Settings are how it was measured.
type Settings struct {
	Quick     bool          `json:"quick"`
	Changes   int           `json:"changes"`
	Databases int           `json:"databases"`
	Proxies   int           `json:"real_proxies"`
	Rate      int           `json:"changes_per_second"`
	Window    time.Duration `json:"window_ns"`
	Rest      time.Duration `json:"rest_ns"`
	Poll      time.Duration `json:"poll_alone_ns"`
	PollMany  time.Duration `json:"poll_many_ns"`
	Tokens    int           `json:"tokens"`
}

// Results are everything that one run found out.
type Results struct {
	Date     time.Time `json:"date"`
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Version  string    `json:"version"` // of the programs
	Notes    []string  `json:"notes"`   // what went wrong

	Beside      Series  `json:"beside"`
	Agent       Series  `json:"agent"`
	Registered  float64 `json:"registered_s"`  // until every database was registered and asked for mutual TLS
	Operational float64 `json:"operational_s"` // until that was operational everywhere
	Rest        Rest    `json:"rest"`
	Many        Many    `json:"many"`
	Stop        float64 `json:"stop_s"`
	Restart     Start   `json:"restart"`
	Cold        Start   `json:"cold_start"`
}

// Write writes the files into the directory.
func (r *Results) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, JSON), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, Markdown), []byte(r.markdown()), 0o644))
}
