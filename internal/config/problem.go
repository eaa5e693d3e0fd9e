package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"pgmtls-proxy/internal/safetext"
)

// Position is a place in a configuration file. Line and Column count from 1; 0 means that there is no one
// line to point at. A tab counts as no column at all in YAML's own reckoning, so Column is for ordering and for
// editors, and only Line is printed.
type Position struct {
	File         string
	Line, Column int
}

// Problem is one thing that is wrong with a configuration, and what to do about it.
type Problem struct {
	Position
	Field   string // path of the key: "ip_rules[2].cidr"; empty when the text is no YAML
	Value   string // what was written, escaped and cut to maxShown bytes; empty when it is of no help or may be secret
	Message string // what is wrong with it, as the rest of a sentence that starts with the value
	Fix     string // what to write instead
}

// Error is the problem on one line: file, line, field, value, what is wrong, and the fix.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	b.WriteString(": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	if p.Value != "" {
		b.WriteString(`"` + p.Value + `" `)
	}
	b.WriteString(p.Message)
	if p.Fix != "" {
		b.WriteString("; " + p.Fix)
	}
	return b.String()
}

// Problems is everything that is wrong with one configuration, in the order of its lines. It is never empty
// when it is returned as an error.
type Problems []Problem

// Error is one line per problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds a report: nobody reads more, and a file of a megabyte can hold a hundred thousand.
const maxProblems = 50

// problemList collects problems. Beyond maxProblems it only counts.
type problemList struct {
	list    Problems
	dropped int
}

func (l *problemList) add(p Problem) {
	if len(l.list) == maxProblems {
		l.dropped++
		return
	}
	l.list = append(l.list, p)
}

// err is nil when nothing is wrong.
func (l *problemList) err() error {
	if len(l.list) == 0 {
		return nil
	}
	slices.SortStableFunc(l.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if l.dropped > 0 {
		l.list = append(l.list, Problem{
			Position: Position{File: l.list[0].File},
			Message:  "has " + strconv.Itoa(l.dropped) + " more problems",
			Fix:      "repair these first",
		})
	}
	return l.list
}

// complaint is what a parser of one value has to say about it, without a place.
type complaint struct{ message, fix string }

// maxShown bounds a value in a problem's text, in bytes before escaping.
const maxShown = 80

// shown makes a value fit to be printed: escaped, so that it can't act on a terminal or start a new log line, cut
// to maxShown bytes, and left out altogether when it looks like key material or holds a password.
func shown(text string) string {
	switch {
	case strings.Contains(text, "-----BEGIN"), strings.Contains(text, "PRIVATE KEY"),
		strings.Contains(text, "password="), strings.Contains(text, "://") && strings.Contains(text, "@"):
		return ""
	}
	quoted := safetext.Quote(text, maxShown)
	return quoted[1 : len(quoted)-1]
}
