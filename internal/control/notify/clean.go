package notify

import (
	"strings"

	"pgmtls-proxy/internal/safetext"
)

// maxShown bounds a text of somebody else's in a notice or an error, in bytes.
const maxShown = 200

// clean makes text that somebody else chose fit for a header, a terminal and a log: what is not printable (line ends,
// escapes, overrides of the writing direction, broken UTF-8) becomes a question mark, and what is too long is cut.
func clean(text string) string {
	return safetext.Truncate(safetext.Replace(text, '?', ""), maxShown)
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
