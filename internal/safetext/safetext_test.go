package safetext

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscapeShowsWhatATerminalOrALogReaderCouldActOn(t *testing.T) {
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
		if got := Escape(row.text, row.max); got != row.want {
			t.Errorf("Escape(%q, %d) is %q, want %q", row.text, row.max, got, row.want)
		}
	}
}

func TestEscapeOfGoodTextAllocatesNothing(t *testing.T) {
	text := strings.Repeat("good text ", 10)
	if n := testing.AllocsPerRun(100, func() { Escape(text, 1000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "app", "Grüße 世界", "a\x00b\x1b[2J\r\n", "\xff\xfe", "\u202e", "\ufffd", "\xed\xa0\x80", "\U000e0041", "é世🎉"} {
		for _, max := range []uint8{0, 1, 2, 3, 255} {
			f.Add(seed, max)
		}
	}
	f.Fuzz(func(t *testing.T, text string, limit uint8) {
		max := int(limit)
		got := Escape(text, max)
		if !utf8.ValidString(got) || !IsPrintable(got) {
			t.Errorf("Escape(%q, %d) is %q", text, max, got)
		}
		// The longest escape of a byte is \xff; of a character, \U000e0041 for four bytes.
		if len(got) > 4*max+len("…") {
			t.Errorf("Escape(%q, %d) has %d bytes", text, max, len(got))
		}
		if len(text) <= max && utf8.ValidString(text) && IsPrintable(text) && got != text {
			t.Errorf("Escape(%q, %d) changed good text to %q", text, max, got)
		}
		if len(text) > max && !strings.HasSuffix(got, "…") {
			t.Errorf("Escape(%q, %d) is %q, which does not show that it was cut", text, max, got)
		}
		if again := Escape(got, len(got)); again != got {
			t.Errorf("clean text is cleaned again: %q to %q", got, again)
		}
	})
}

func TestQuoteHoldsTheCutTextInQuotes(t *testing.T) {
	for _, row := range []struct {
		text string
		max  int
		want string
	}{
		{"", 10, `""`},
		{`say "hi"`, 10, `"say \"hi\""`},
		{"a\x1b[2J\u202e\xff", 10, `"a\x1b[2J\u202e\xff"`},
		{"abcdef", 3, `"abc…"`},
		{"abéé", 3, `"ab…"`},
	} {
		if got := Quote(row.text, row.max); got != row.want {
			t.Errorf("Quote(%q, %d) is %s, want %s", row.text, row.max, got, row.want)
		}
	}
}

func TestReplaceLeavesOneCharacterForEachUnsafeOne(t *testing.T) {
	for text, want := range map[string]string{
		"plain é 漢":                              "plain é 漢",
		"a\x1b[2J\r\nb\u202ec\x00":               "a?[2J?\nb?c?",
		"\x7f\u0085\u009b\u2066\u200b\U000e0041": "??????",
		"\xffa\ufffd":                            "?a?",
	} {
		if got := Replace(text, '?', "\n"); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestACutNeverDividesACharacter(t *testing.T) {
	for _, row := range []struct {
		text, want string
		max        int
	}{
		{"abc", "abc", 3},
		{"abcd", "abc", 3},
		{"abé", "ab", 3},
		{"abéx", "abé", 4},
		{"世界", "世", 5},
		{"世界", "世", 3},
		{"世界", "", 2},
		{"🎉", "", 3},
		{"é\x80\x80x", "é", 4},
		{"x", "", 0},
	} {
		if got := Cut(row.text, row.max); got != row.want {
			t.Errorf("Cut(%q, %d) is %q, want %q", row.text, row.max, got, row.want)
		}
		want := row.want
		if len(row.text) > row.max {
			want += "…"
		}
		if got := Truncate(row.text, row.max); got != want {
			t.Errorf("Truncate(%q, %d) is %q, want %q", row.text, row.max, got, want)
		}
	}
}
