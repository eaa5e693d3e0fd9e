package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestQuantilesAreExactByRank(t *testing.T) {
	var hundred Latencies
	for i := range 100 {
		hundred.Add(time.Duration(100-i) * time.Millisecond)
	}
	for q, want := range map[float64]float64{0: 1, .5: 50, .99: 99, .991: 100, 1: 100} {
		if got := hundred.Quantile(q); got != want {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
	if got := (Latencies{}).Quantile(.99); got != 0 {
		t.Errorf("of nothing it is %v", got)
	}
}

func TestUnitsAreRounded(t *testing.T) {
	var l Latencies
	if l.Add(123456 * time.Microsecond); l[0] != 123.5 {
		t.Errorf("got %v ms", l)
	}
	if got := Seconds(1234567 * time.Microsecond); got != 1.235 {
		t.Errorf("got %v s", got)
	}
	if got := MiB(3<<20 + 300<<10); got != 3.3 {
		t.Errorf("got %v MiB", got)
	}
}

func TestGoalsSayWhatWasReached(t *testing.T) {
	r := Results{Settings: Settings{Databases: 1000, Rate: 50}}
	if text := r.Goals(); strings.Count(text, "not measured") != 2 {
		t.Errorf("of nothing:\n%s", text)
	}
	r.Beside.Authorized = Latencies{70, 999.9}
	r.Many = Many{Real: Latencies{70}, StandIns: Latencies{1000}}
	if text := r.Goals(); !strings.Contains(text, "< 1000 ms | 999.9 ms | yes") || !strings.Contains(text, "| 1000.0 ms | **no**") {
		t.Errorf("got:\n%s", text)
	}
}

func TestResultsAreWrittenForPeopleAndMachines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	r := Results{Date: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), Notes: []string{"the first error of 1: no"},
		Settings: Settings{Quick: true, Databases: 50, Rest: time.Second}, Beside: Series{Authorized: Latencies{61.5}}}
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, Markdown))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2026-11-22", "quick run", "Authorized | 1 | 61.5 |", "the first error of 1: no", "50 databases"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "%!") || strings.Contains(string(text), "NaN") {
		t.Errorf("the report is badly formatted:\n%s", text)
	}
	text, err = os.ReadFile(filepath.Join(dir, JSON))
	if err != nil {
		t.Fatal(err)
	}
	var back Results
	if err := json.Unmarshal(text, &back); err != nil || back.Beside.Authorized[0] != 61.5 {
		t.Errorf("read back %+v, %v", back, err)
	}
}
