package docs_test

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The README repeats some of what was measured. The results are written by the benchmarks, so each of its figures is held
// against theirs.
func TestFiguresOfTheREADMEAreThoseOfTheResults(t *testing.T) {
	text := strings.Join(strings.Fields(read(t, "../README.md")), " ")
	proxy, control := read(t, "../bench/results/results.md"), read(t, "../bench/results/control.md")
	date := cell(t, proxy, regexp.MustCompile("(?m)^Written by `make bench` on ([0-9-]+);"))
	cpu := cell(t, proxy, regexp.MustCompile(`(?m)^\| CPU per small transaction, c=1 \| PgBouncer \| [^|]* \| ([0-9.]+) \|`))
	slow := cell(t, proxy, regexp.MustCompile(`(?m)^\| p99 of small queries beside a bulk copy \| nginx \| [^|]* \| ([0-9.]+) \|`))
	for _, want := range []string{
		"share, on " + date + ":",
		"with one client it uses " + cpu + " of PgBouncer's CPU, and the p99 of small queries beside a bulk copy is " + slow + " of nginx's",
		change(t, control, "one proxy beside the daemon", "one proxy beside the daemon: the rule is seen as Authorized"),
		change(t, control, "one proxy with an agent", "one proxy with an agent: the rule is seen as Authorized"),
		change(t, control, "1,000 databases, 50 changes a second", "1000 databases, 50 changes a second: Authorized"),
		fmt.Sprintf("With 1,000 databases the daemon uses %s MiB, and %s %% of a core at 50 changes a second.",
			cell(t, control, regexp.MustCompile(`(?m)^\| resident MiB \| \d+ \| (\d+) \|`)),
			rounded(t, cell(t, control, regexp.MustCompile(`(?m)^\| of one core \| [0-9.]+ % \| ([0-9.]+) % \|`)))),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the README does not say %q", want)
		}
	}
}

// cell returns the one group of a pattern in a text.
func cell(t *testing.T, text string, pattern *regexp.Regexp) string {
	t.Helper()
	found := pattern.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("the results have nothing like %s", pattern)
	}
	return found[1]
}

// change returns the README's row of a change: its median and 99th percentile.
func change(t *testing.T, results, name, row string) string {
	t.Helper()
	figures := `(?m)^\| ` + regexp.QuoteMeta(row) + ` \| \d+ \| %s \|`
	return fmt.Sprintf("| %s | %s ms | %s ms |", name,
		rounded(t, cell(t, results, regexp.MustCompile(fmt.Sprintf(figures, `([0-9.]+)`)))),
		rounded(t, cell(t, results, regexp.MustCompile(fmt.Sprintf(figures, `[0-9.]+ \| [0-9.]+ \| ([0-9.]+)`)))))
}

// rounded returns a figure as the nearest whole number.
func rounded(t *testing.T, figure string) string {
	t.Helper()
	value, err := strconv.ParseFloat(figure, 64)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(math.Round(value)))
}
