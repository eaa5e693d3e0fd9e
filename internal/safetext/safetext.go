// Package safetext makes text that somebody else chose fit to be logged, shown on a terminal and sent on.
//
// Three kinds of characters are unsafe: those that command a terminal or end a line (C0 with DEL, C1), those that
// show something other than what stands there (overrides of the writing direction, characters of no width, private and
// unassigned ones), and bytes that are not UTF-8. One rule names them all: what [strconv.IsPrint] does not accept.
// The callers choose what becomes of them: [Escape] and [Quote] keep what was there readable, [Replace] keeps the length.
//
// All bounds are in bytes of UTF-8, and a cut never divides a character.
package safetext

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Ellipsis marks a text that was cut. It comes on top of the bound.
const Ellipsis = "…"

// IsPrintable reports whether the text is valid UTF-8 without an unsafe character.
func IsPrintable(text string) bool {
	for i, r := range text {
		if !safe(text, i, r) {
			return false
		}
	}
	return true
}

// safe reports whether the character r, which stands at text[i:], may be shown. U+FFFD is unsafe if range made it of an
// invalid byte, and an ordinary character if the text holds it.
func safe(text string, i int, r rune) bool {
	return strconv.IsPrint(r) && (r != utf8.RuneError || strings.HasPrefix(text[i:], "\uFFFD"))
}

// Escape returns the text with each unsafe character escaped as in a Go string, after cutting it to max bytes. A cut text
// ends with [Ellipsis]. Backslashes and quotes stay as they are, so printable text passes unchanged, without an
// allocation; the result can have four times max bytes.
func Escape(text string, max int) string {
	short := Cut(text, max)
	cut := len(short) < len(text)
	if !IsPrintable(short) {
		short = escape(short)
	}
	if cut {
		short += Ellipsis
	}
	return short
}

func escape(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case safe(text, i, r):
			b.WriteRune(r)
		case r == utf8.RuneError:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// Quote returns the text as a quoted Go string, after cutting it to max bytes. The quotes of a cut text hold [Ellipsis].
func Quote(text string, max int) string {
	short := Cut(text, max)
	if len(short) < len(text) {
		short += Ellipsis
	}
	return strconv.Quote(short)
}

// Replace returns the text with each unsafe character, each invalid byte and each U+FFFD replaced. The characters of keep
// stay.
func Replace(text string, with rune, keep string) string {
	return strings.Map(func(r rune) rune {
		if (r == utf8.RuneError || !strconv.IsPrint(r)) && !strings.ContainsRune(keep, r) {
			return with
		}
		return r
	}, text)
}

// Truncate returns the text, or, if it has more than max bytes, its beginning and [Ellipsis].
func Truncate(text string, max int) string {
	if len(text) <= max {
		return text
	}
	return Cut(text, max) + Ellipsis
}

// Cut returns the text, or, if it has more than max bytes, its beginning without a mark. A character whose end does not fit
// is left out, and so are invalid bytes before it; other invalid bytes stay.
func Cut(text string, max int) string {
	if len(text) <= max {
		return text
	}
	text = text[:max]
	for len(text) > 0 {
		if r, size := utf8.DecodeLastRuneInString(text); r != utf8.RuneError || size != 1 {
			break
		}
		text = text[:len(text)-1]
	}
	return text
}
