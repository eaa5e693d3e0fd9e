package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/bench/internal/peers"
)

// measured is a run with made-up figures: in two rounds, the second on a machine that is twice as slow.
func measured() *Results {
	r := &Results{
		Date:     time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
		Machine:  Machine{CPU: "Abacus <7>", Cores: 2},
		Settings: Settings{Rounds: 2, Window: time.Second},
		Programs: []Program{{Name: peers.Proxy, Version: "1"}, {Name: peers.PgBouncer, Version: "2"}, {Name: peers.Nginx, Version: "3"}},
		Notes:    []string{"nothing & nobody"},
	}
	add := func(s Scenario, size int, proxy string, round int, v Values) {
		r.Samples = append(r.Samples, Sample{Scenario: s, Size: size, Proxy: proxy, Round: round, Values: v})
	}
	for round, slow := range []float64{1, 2} {
		add(PgbenchSimple, 8, peers.Proxy, round, Values{CPU: 16 * slow, Rate: 2000 / slow})
		add(PgbenchSimple, 8, peers.PgBouncer, round, Values{CPU: 20 * slow, Rate: 1000 / slow})
		add(QueriesSimple, 8, peers.Proxy, round, Values{P99: []float64{9, 16}[round]})
		add(QueriesSimple, 8, peers.PgBouncer, round, Values{P99: 10})
		add(Removal, 5000, peers.Proxy, round, Values{Ended: 1000 * slow})
		add(Mixed, 8, peers.Proxy, round, Values{P99: 900})
		add(Mixed, 8, peers.Nginx, round, Values{P99: 300})
	}
	for _, idle := range []int{100, 1000, 2000} {
		add(GrowthSessions, idle, peers.Proxy, 0, Values{CPU: 10 + float64(idle)/1000, Memory: 2048 + 10*float64(idle), Rate: 5, P99: 6})
	}
	return r
}

func TestRatiosAreThoseOfTheRounds(t *testing.T) {
	text := measured().markdown()
	for _, want := range []string{
		"| simple | 8 | pgmtls-proxy | 1500 | 2.00 |  | 24.0 | 0.80 |\n",
		"| simple | 8 | PgBouncer | 750 | 1.00 |  | 30.0 | 1.00 |\n",
		"- nothing & nobody\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "COPY of PostgreSQL") {
		t.Error("there is a table of what was not measured")
	}
}

func TestGoalsSayWhatIsReached(t *testing.T) {
	goals := measured().Goals()
	for _, want := range []string{
		"| CPU per small transaction, c=8 | PgBouncer | ≤ 0.7 | 0.80 | **no** |\n",
		"| tps, c=8 | PgBouncer | ≥ 1.1 | 2.00 | yes |\n",
		"| p99 of small queries, c=8 | PgBouncer | ≤ 1 | 1.25 (0.90 to 1.60) | not established (1 of 2 rounds) |\n",
		"| p99 of small queries beside a bulk copy | nginx | ≤ 1 | 3.00 | **no** |\n",
		"| bulk CPU, four sessions down | nginx | ≤ 0.75 |  | not measured |\n",
		"| ms until the last of half the sessions has ended |  | ≤ 1000 | 1500 (1000 to 2000) | not established (1 of 2 rounds) |\n",
	} {
		if !strings.Contains(goals, want) {
			t.Errorf("there is no %q in:\n%s", want, goals)
		}
	}
}

func TestEstimateFollowsTheLines(t *testing.T) {
	text := measured().markdown()
	for _, want := range []string{
		"CPU of a small query: 10.0 µs + 1.000 µs · N/1000. Memory: 2 MiB + 10.0 KiB · N.",
		"10000 idle sessions: 16 · 0.7 · 10⁶ / 20.0 µs = 560000 small queries a second, 100 MiB.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in:\n%s", want, text)
		}
	}
}

func TestALineThatFallsIsTakenToBeFlat(t *testing.T) {
	r := &Results{}
	for i, cpu := range []float64{30, 20, 10} {
		r.Samples = append(r.Samples, Sample{Scenario: GrowthSessions, Size: 1000 * (i + 1), Proxy: peers.Proxy, Values: Values{CPU: cpu}})
	}
	if line := r.line(CPU); line.Slope != 0 || line.Base != 20 {
		t.Errorf("it is %+v", line)
	}
}

func TestFilesAreWrittenAndReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	if err := measured().Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Results
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.markdown() != measured().markdown() {
		t.Error("what is read back makes another report")
	}
	for name, want := range map[string]string{"cpu.svg": "24.0", "latency.svg": "900"} {
		picture, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(picture), ">"+want+"<") {
			t.Errorf("%s does not show %s", name, want)
		}
		decoder := xml.NewDecoder(strings.NewReader(string(picture)))
		for err == nil {
			_, err = decoder.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s is no XML: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "bulk.svg")); err == nil {
		t.Error("there is a chart of what was not measured")
	}
}

func TestTextInChartsIsEscaped(t *testing.T) {
	picture := chart{title: "a < b", groups: []group{{bars: []bar{{label: "x & y", value: 1}}}}}.svg()
	if !strings.Contains(picture, "a &lt; b") || !strings.Contains(picture, "x &amp; y") {
		t.Error(picture)
	}
}
