package allowlist

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

var newYear = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

// row is a line of a text table, without its comment.
type row struct {
	section string
	fields  []string
	line    int
}

// table reads rows of at least two fields; the address of a verdict may itself hold a space, never two.
func table(t *testing.T, path string) (rows []row, sections []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		text = strings.TrimSpace(text)
		if name, ok := strings.CutPrefix(text, "["); ok {
			sections = append(sections, strings.TrimSuffix(name, "]"))
		} else if text != "" {
			rows = append(rows, row{sections[len(sections)-1], strings.Fields(text), n})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows, sections
}

func readSets(t *testing.T) map[string]*Set {
	t.Helper()
	rules := map[string][]Rule{}
	rows, sections := table(t, "testdata/rules.txt")
	for _, r := range rows {
		rule := Rule{ID: r.fields[0], Prefix: netip.MustParsePrefix(r.fields[1])}
		if len(r.fields) == 3 {
			at, err := time.Parse(time.RFC3339, r.fields[2])
			if err != nil {
				t.Fatalf("rules.txt:%d: %v", r.line, err)
			}
			rule.ExpiresAt = at
		}
		rules[r.section] = append(rules[r.section], rule)
	}
	sets := map[string]*Set{}
	for _, name := range sections {
		set, err := New(rules[name])
		if err != nil {
			t.Fatalf("[%s]: %v", name, err)
		}
		sets[name] = set
	}
	return sets
}

func verdict(s *Set, addr netip.Addr, now time.Time) string {
	rule, ok := s.Match(addr, now)
	switch {
	case ok && rule != nil:
		return rule.ID
	case ok || rule != nil:
		return "a rule without a verdict, or the other way round"
	}
	return "deny"
}

func TestVerdictsAreThoseOfTheTables(t *testing.T) {
	sets := readSets(t)
	rows, sections := table(t, "testdata/verdicts.txt")
	for _, r := range rows {
		set, ok := sets[r.section]
		if !ok {
			t.Fatalf("verdicts.txt:%d: rules.txt has no [%s]", r.line, r.section)
		}
		last := len(r.fields) - 1
		text := strings.Join(r.fields[:last], " ")
		addr, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatalf("verdicts.txt:%d: %v", r.line, err)
		}
		if got := verdict(set, addr, newYear); got != r.fields[last] {
			t.Errorf("verdicts.txt:%d: [%s] %s: %s, want %s", r.line, r.section, text, got, r.fields[last])
		}
	}
	if len(rows) < 50 || len(sections) != len(sets) {
		t.Errorf("%d verdicts of %d sets: the tables were not read whole", len(rows), len(sections))
	}
}
