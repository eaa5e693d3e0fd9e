package main

import (
	"fmt"
	"io"
	"strings"
)

// printer writes what the user reads. One goroutine at a time. Where nobody reads it, the demo goes on.
type printer struct {
	out    io.Writer
	colour bool
}

const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
)

// heading begins a step.
func (p *printer) heading(format string, args ...any) {
	p.line("\n%s", p.paint(bold, "== "+fmt.Sprintf(format, args...)))
}

// say explains, in the demo's own voice.
func (p *printer) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		p.line("%s", p.paint(faint, "# "+strings.TrimSuffix(line, "\n")))
	}
}

// typed shows a command line.
func (p *printer) typed(line string) { p.line("%s%s", p.paint(bold, "$ "), line) }

// output shows what a program printed, as it did.
func (p *printer) output(text string) { _, _ = io.WriteString(p.indented(), text) }

// line prints a line that somebody may want to copy.
func (p *printer) line(format string, args ...any) { _, _ = fmt.Fprintf(p.out, format+"\n", args...) }

// good and bad are the verdict on a step.
func (p *printer) good(format string, args ...any) {
	p.line("%s", p.paint(green, "✓ "+fmt.Sprintf(format, args...)))
}

func (p *printer) bad(format string, args ...any) {
	p.line("%s", p.paint(red, "✗ "+fmt.Sprintf(format, args...)))
}

func (p *printer) paint(colour, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// indented gives a writer for the output of a program: every line is moved to the right, and shown at once.
func (p *printer) indented() io.Writer { return &indenter{to: p.out} }

type indenter struct {
	to     io.Writer
	inLine bool
}

func (w *indenter) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		if !w.inLine {
			line = "    " + line
		}
		if _, err := io.WriteString(w.to, line); err != nil {
			return 0, err
		}
		w.inLine = !strings.HasSuffix(line, "\n")
	}
	return len(text), nil
}

// commandLine writes words as one would type them.
func commandLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = shellQuote(word)
	}
	return strings.Join(quoted, " ")
}

// shellQuote writes a word so that a shell reads it as it is, in the way that is easier to read.
func shellQuote(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	if strings.Contains(word, "'") && !strings.ContainsAny(word, "\"\\$`!") {
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
