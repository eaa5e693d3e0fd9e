package safetext

import "testing"

func TestOneMarkAtTheBeginningIsSkipped(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "a": "a", mark: "", mark + "a": "a", mark + mark + "a": mark + "a", "a" + mark: "a" + mark, "\n" + mark: "\n" + mark,
		"\xef\xbb": "\xef\xbb", "\xff\xfea": "\xff\xfea",
	} {
		if got := string(WithoutMark([]byte(text))); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
