package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/safetext"
)

// printer writes what a command found, for people or as JSON.
type printer struct {
	to     io.Writer
	json   bool
	colour bool
	err    error // the first of to

	narrow  bool // tables fit the columns of a terminal
	columns int
	now     time.Time // for how long ago something was
}

func (a *app) printer() *printer {
	return &printer{
		to:     a.env.Stdout,
		json:   a.json,
		colour: a.env.StdoutTerminal && a.env.Getenv("NO_COLOR") == "" && a.env.Getenv("TERM") != "dumb",

		narrow:  a.env.StdoutTerminal && !a.wide,
		columns: max(minColumns, cmp.Or(a.env.Columns, defaultColumns)),
		now:     a.env.Now(),
	}
}

// show prints a value of the API as JSON if that is asked for, and else what text prints.
func (p *printer) show(value any, text func()) error {
	if !p.json {
		text()
		return p.err
	}
	return p.encode(value, "  ")
}

// encode writes a value as one JSON text and a line end. What others wrote into it can't act on a terminal.
func (p *printer) encode(value any, indent string) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", indent)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	p.write(safetext.JSON(text.Bytes()))
	return p.err
}

// line prints one line of text for people.
func (p *printer) line(format string, args ...any) { p.write(fmt.Appendf(nil, format+"\n", args...)) }

// write keeps the first error, with which the command ends: nobody is to take what is missing for the result.
func (p *printer) write(text []byte) {
	if _, err := p.to.Write(text); err != nil && p.err == nil {
		p.err = fmt.Errorf("write the result: %w", err)
	}
}

// row is one line of a block: a name and what it is.
type row struct{ name, value string }

// block prints rows with the values in one column. Rows without a value are left out.
func (p *printer) block(rows ...row) {
	width := 0
	for _, r := range rows {
		if r.value != "" {
			width = max(width, len(r.name))
		}
	}
	for _, r := range rows {
		if r.value != "" {
			p.line("%-*s %s", width+1, r.name+":", p.paint(clean(r.value)))
		}
	}
}

// The escapes of a terminal, ECMA-48 section 8.3.117.
const (
	plain  = "\x1b[0m"
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	erase  = "\r\x1b[K"
)

// colours are those of the states. What is under way is yellow.
var colours = map[string]string{
	api.Operational: green, api.Authorized: green, api.Ready: green, api.ActiveCA: green, inForce: green, api.EnhancedEnabled: green,
	api.Provisioning: yellow, api.Authorizing: yellow, api.Pending: yellow, api.RetiringCA: yellow, behind: yellow,
	api.Deprovisioning: yellow, api.Deauthorizing: yellow, api.Disabling: yellow,
	api.Disabled: red, api.RetiredCA: red, failing: red, api.ErrorUnreachable: red, api.ErrorUndeliverable: red, api.ErrorRefused: red,
}

func (p *printer) paint(text string) string {
	if colour := colours[text]; p.colour && colour != "" {
		return colour + text + plain
	}
	return text
}

// warning is a line that should not be overlooked.
func (p *printer) warning(text string) string {
	if p.colour {
		return yellow + text + plain
	}
	return text
}

// clean makes text that somebody else wrote fit for a terminal: what does not print would command it.
func clean(text string) string {
	return safetext.Replace(text, '\ufffd', "")
}

// moment prints a time, and nothing for the zero time.
func moment(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// or prints other in place of nothing.
func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// count is "1 session" and "2 sessions".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
