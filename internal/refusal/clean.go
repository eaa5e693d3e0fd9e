package refusal

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText bounds a text that is shown to a client or logged, in bytes before escaping.
const maxText = 1024

// Clean makes text that somebody else chose fit to be logged and shown: every character that a terminal or a
// log reader could act on (control characters, bidirectional overrides, invalid UTF-8) is escaped as in a Go
// string, and what exceeds max bytes is cut and marked with an ellipsis. Printable text passes unchanged, and
// without an allocation.
func Clean(text string, max int) string {
	cut := len(text) > max
	if cut {
		text = text[:max]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) {
			text = text[:len(text)-1]
		}
		// The last rune may have lost its tail: RuneStart keeps its first byte.
		if r, size := utf8.DecodeLastRuneInString(text); r == utf8.RuneError && size == 1 {
			text = text[:len(text)-1]
		}
	}
	if !printable(text) {
		text = escape(text)
	}
	if cut {
		text += "…"
	}
	return text
}

func printable(text string) bool {
	for i, r := range text {
		if !strconv.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD") {
			return false
		}
	}
	return true
}

func escape(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
