package cli

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// onlyWide marks the header of a column that a terminal shows with --wide alone. Pipes and files always have it.
const onlyWide = "+"

const (
	defaultColumns = 80 // of a terminal that does not say how many it has
	minColumns     = 40
	minText        = 8  // a text in the last column is cut to this at first,
	minCell        = 14 // and then the widest columns to this, which has room for the longest state
	minID          = 8  // characters of an id that is cut
)

// table prints rows in aligned columns. The first row is the header. On a terminal a table has the width of the terminal:
// cells that are too wide end with an ellipsis.
func (p *printer) table(rows ...[]string) {
	if len(rows) == 0 {
		return
	}
	rows = p.chosen(rows)
	widths := widthsOf(rows)
	if p.narrow {
		fit(rows, widths, p.columns)
	}
	for number, cells := range rows {
		var line strings.Builder
		for i, cell := range cells {
			shown := cell
			switch {
			case number > 0:
				shown = p.paint(cell)
			case p.colour:
				shown = bold + cell + plain
			}
			line.WriteString(shown)
			if i < len(cells)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		p.line("%s", strings.TrimRight(line.String(), " "))
	}
}

// chosen gives the columns that are shown, cleaned.
func (p *printer) chosen(rows [][]string) [][]string {
	chosen := make([][]string, len(rows))
	for column, header := range rows[0] {
		if p.narrow && strings.HasPrefix(header, onlyWide) {
			continue
		}
		for number, cells := range rows {
			if column < len(cells) {
				cell := cells[column]
				if number == 0 {
					cell = strings.TrimPrefix(cell, onlyWide)
				}
				chosen[number] = append(chosen[number], clean(cell))
			}
		}
	}
	return chosen
}

func widthsOf(rows [][]string) []int {
	var widths []int
	for _, cells := range rows {
		for i, cell := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// idHeaders are those of columns whose cells are typed as they stand, and never cut; textHeaders those of texts.
var (
	idHeaders   = []string{"ID", "CERTIFICATE", "OBJECT"}
	textHeaders = []string{"DESCRIPTION", "DETAIL"}
)

// fit narrows columns until the table has the columns of the terminal, and cuts their cells.
func fit(rows [][]string, widths []int, columns int) {
	total := 2 * (len(widths) - 1)
	for _, width := range widths {
		total += width
	}
	if last := len(widths) - 1; slices.Contains(textHeaders, rows[0][last]) {
		cut := max(0, min(total-columns, widths[last]-minText))
		widths[last] -= cut
		total -= cut
	}
	for total > columns {
		widest := -1
		for i, width := range widths {
			if width > minCell && !slices.Contains(idHeaders, rows[0][i]) && (widest < 0 || width >= widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		total--
	}
	for _, cells := range rows {
		for i, cell := range cells {
			if runes := []rune(cell); len(runes) > widths[i] {
				cells[i] = string(runes[:widths[i]-1]) + "…"
			}
		}
	}
}

// moment prints a time of a table: on a terminal how far away it is, else as it is. It prints nothing for the zero time.
func (p *printer) moment(at time.Time) string {
	away := at.Sub(p.now)
	switch {
	case !p.narrow || at.IsZero():
		return moment(at)
	case away.Abs() < time.Second:
		return "now"
	case away > 0:
		return "in " + elapsed(away)
	}
	return elapsed(-away) + " ago"
}

// ids gives what a table shows of the ids in it: on a terminal their beginnings, long enough to tell them from each other,
// which --id takes. Words that are no ids, such as "-", are in nobody's way.
func (p *printer) ids(all []string) func(string) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(all)))
	length := minID
	for i := 1; i < len(sorted); i++ { // neighbours have the most in common
		length = max(length, common(sorted[i-1], sorted[i])+1)
	}
	return func(id string) string {
		if !p.narrow || len(id) <= length {
			return id
		}
		return id[:length]
	}
}

// common is the length of the beginning that both texts have.
func common(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
