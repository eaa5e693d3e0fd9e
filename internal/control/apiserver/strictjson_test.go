package apiserver

import (
	"encoding/json"
	"strings"
	"testing"
)

// Two programs that read such a body may see two requests: one is checked, and the other is done.
func TestBodyThatCouldMeanTwoThingsIsRefused(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for text, want := range map[string]string{
		`{"cidr": "10.0.0.0/8", "cidr": "0.0.0.0/0"}`:        "the field cidr occurs twice; remove one of the two",
		`{"cidr": "10.0.0.0/8", "CIDR": "0.0.0.0/0"}`:        "the field CIDR occurs twice; remove one of the two",
		`{"scope": "x", "\u017fcope": "y"}`:                  "a field occurs twice; remove one of the two", // ſ folds to s
		`{"cidr": "a", "\u0063idr": "b"}`:                    "the field cidr occurs twice; remove one of the two",
		`{"a": {"b": 1}, "c": [{"b": 1}, {"b": 1, "b": 2}]}`: "the field b occurs twice; remove one of the two",
		"{\"description\": \"B\xfcro\"}":                     "it is not valid UTF-8 at byte 19",
		"{\"description\": \"\xed\xa0\x80\"}":                "it is not valid UTF-8 at byte 18",
		"{\"description\": \"\xc0\xaf\"}":                    "it is not valid UTF-8 at byte 18",
		"{\"d\xff\": 1}":                                     "it is not valid UTF-8 at byte 4",
		`{"description": "\ud800"}`:                          "the escape at byte 18 is half of a surrogate pair",
		`{"description": "\udc00\ud800"}`:                    "the escape at byte 18 is half of a surrogate pair",
		`{"description": "\ud800\u0041"}`:                    "the escape at byte 18 is half of a surrogate pair",
		`{"description": "\\\ud83c"}`:                        "the escape at byte 20 is half of a surrogate pair",
		deep(17):                                             "it is nested deeper than 16 levels",
		strings.Repeat("[", 100_000):                         "it is nested deeper than 16 levels",
	} {
		if err := checkJSON([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.60s: got %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{`{}`, `{"a": 1, "b": {"a": 1}, "c": [{"a": "a"}, {"a": "a"}]}`, `{"a": "a", "b": "a"}`, `{"description": "\ud83c\udfe2 \\ud800 \\\\"}`,
		`{"a": [], "b": [[]], "c": {}}`, deep(16), `{"description": "` + "\ufffd" + `"}`} {
		if err := checkJSON([]byte(text)); err != nil || !json.Valid([]byte(text)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzCheckJSON: what passes means the same to a reader that takes the first of two fields and to one that takes the last.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1,"a":2}`, `{"a":"\ud800"}`, `{"a":[{"b":1}]}`, "{\"a\":\"\xff\"}", `[`, `{"a"`, `}`, `]`, `{"a":1}}`, `"\`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if checkJSON(text) != nil || !json.Valid(text) {
			return
		}
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(again), `\ufffd`)+strings.Count(string(again), "\ufffd") > strings.Count(string(text), "\ufffd")+strings.Count(strings.ToLower(string(text)), `\ufffd`) {
			t.Fatalf("%q became %q", text, again)
		}
	})
}
