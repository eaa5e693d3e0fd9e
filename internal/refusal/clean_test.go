package refusal

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanEscapesWhatATerminalOrALogReaderCouldActOn(t *testing.T) {
	for _, row := range []struct {
		text string
		max  int
		want string
	}{
		{"", 10, ""},
		{"app", 10, "app"},
		{"Grüße, 世界 🎉", 100, "Grüße, 世界 🎉"},
		{`back\slash "quotes"`, 100, `back\slash "quotes"`},
		{"line\r\nline\t\x00", 100, `line\r\nline\t\x00`},
		{"\x1b[31mred\x1b[0m", 100, `\x1b[31mred\x1b[0m`},
		{"\x7f\u0085\u009b", 100, `\x7f\u0085\u009b`},
		{"abc\u202edef\u2066\u200b\ufeff", 100, `abc\u202edef\u2066\u200b\ufeff`},
		{"\u2028\u2029\u00a0", 100, `\u2028\u2029\u00a0`},
		{"\xff\xc3", 100, `\xff\xc3`},
		{"\ufffd", 100, "\ufffd"},
		{"\xed\xa0\x80", 100, `\xed\xa0\x80`}, // half of a surrogate pair
		{"\U000e0041", 100, `\U000e0041`},     // a tag character, which no screen shows
		{"abcdef", 3, "abc…"},
		{"abé", 3, "ab…"},
		{"ab世", 4, "ab…"},
		{"abc", 3, "abc"},
		{"ab\x80\x80\x80\x80", 4, "ab…"},
		{strings.Repeat("\x80", 100), 50, "…"},
		{"abc", 0, "…"},
	} {
		if got := Clean(row.text, row.max); got != row.want {
			t.Errorf("Clean(%q, %d) is %q, want %q", row.text, row.max, got, row.want)
		}
	}
}

func TestCleanOfGoodTextAllocatesNothing(t *testing.T) {
	text := strings.Repeat("good text ", 10)
	if n := testing.AllocsPerRun(100, func() { Clean(text, 1000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"", "app", "Grüße 世界", "a\x00b\x1b[2J\r\n", "\xff\xfe", "\u202e", "\ufffd", "\xed\xa0\x80", "\U000e0041", "é世🎉"} {
		for _, max := range []uint8{0, 1, 2, 3, 255} {
			f.Add(seed, max)
		}
	}
	f.Fuzz(func(t *testing.T, text string, limit uint8) {
		max := int(limit)
		got := Clean(text, max)
		if !utf8.ValidString(got) || !printable(got) {
			t.Errorf("Clean(%q, %d) is %q", text, max, got)
		}
		// The longest escape of a byte is \xff; of a character, \U000e0041 for four bytes.
		if len(got) > 4*max+len("…") {
			t.Errorf("Clean(%q, %d) has %d bytes", text, max, len(got))
		}
		if len(text) <= max && utf8.ValidString(text) && printable(text) && got != text {
			t.Errorf("Clean(%q, %d) changed good text to %q", text, max, got)
		}
		if len(text) > max && !strings.HasSuffix(got, "…") {
			t.Errorf("Clean(%q, %d) is %q, which does not show that it was cut", text, max, got)
		}
		if again := Clean(got, len(got)); again != got {
			t.Errorf("clean text is cleaned again: %q to %q", got, again)
		}
	})
}
