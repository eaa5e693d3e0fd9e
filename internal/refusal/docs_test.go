package refusal

import (
	"os"
	"strings"
	"testing"
)

const reference = "../../docs/refusals.md"

// documented are the rows of the reference by name: SQLSTATE, message, and what is said of it.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[0], "`")
		if _, twice := found[name]; twice {
			t.Errorf("%s has %s twice", reference, name)
		}
		found[name] = cells[1:]
	}
	return found
}

func TestReferenceHasExactlyTheReasons(t *testing.T) {
	rows := documented(t)
	for _, r := range All() {
		row, ok := rows[r.String()]
		delete(rows, r.String())
		state, message := "`"+r.SQLState()+"`", table[r].message
		if r.Silent() {
			state, message = "-", "-"
		}
		switch {
		case !ok:
			t.Errorf("%s lacks %s", reference, r)
		case len(row) != 5 || row[2] == "" || row[3] == "" || row[4] == "":
			t.Errorf("%s says of %s: %q; want SQLSTATE, message, when, the client, the operator", reference, r, row)
		case row[0] != state || row[1] != message:
			t.Errorf("%s gives %s as %s %q, want %s %q", reference, r, row[0], row[1], state, message)
		}
	}
	for name := range rows {
		t.Errorf("%s has %s, which is no reason", reference, name)
	}
}
