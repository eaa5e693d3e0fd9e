package safetext

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON returns a JSON text that means the same and can be shown: what is unsafe in its strings is escaped as JSON does,
// and a byte that is not UTF-8 becomes U+FFFD, which is what encoding/json reads in its place. encoding/json escapes C0
// and nothing else, so a terminal would act on a C1 sequence, or turn the rest of a line around.
//
// The text must be valid JSON: then every character that is not ASCII, and DEL, is in a string. Line ends and tabs
// between the values stay. A safe text is returned as it is.
func JSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || !isSafeInJSON(r) }) {
		return text
	}
	out := make([]byte, 0, len(text)+len(text)/8)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			out = append(out, "\uFFFD"...)
		case isSafeInJSON(r):
			out = append(out, text[i:i+size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = appendEscape(appendEscape(out, high), low)
		default:
			out = appendEscape(out, r)
		}
		i += size
	}
	return out
}

func isSafeInJSON(r rune) bool {
	return strconv.IsPrint(r) || r == '\n' || r == '\t' || r == '\r'
}

func appendEscape(out []byte, r rune) []byte { return fmt.Appendf(out, `\u%04x`, r) }
