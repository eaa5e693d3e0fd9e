package notify

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown bounds a text of somebody else's in a notice or an error, in characters.
const maxShown = 200

// clean makes text that somebody else chose fit for a header, a terminal and a log: what is not printable (line ends,
// escapes, overrides of the writing direction, broken UTF-8) becomes a question mark, and what is too long is cut.
func clean(text string) string {
	var b strings.Builder
	count := 0
	for _, r := range text {
		if count++; count > maxShown {
			b.WriteString("…")
			break
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// quoted makes a cleaned text one word of a shell command. The command is there to be copied, so a name must not be
// able to end it and start another.
func quoted(text string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-"
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(plain, r) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
