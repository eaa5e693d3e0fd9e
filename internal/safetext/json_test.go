package safetext

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONEscapesWhatATerminalCouldActOn(t *testing.T) {
	for text, want := range map[string]string{
		`{"a": "Grüße, 世界 🎉"}`:             `{"a": "Grüße, 世界 🎉"}`,
		"{\n\t\"a\": 1\r\n}\n":             "{\n\t\"a\": 1\r\n}\n",
		"\"\u009b31mred\"":                 `"\u009b31mred"`,
		"\"\x7f\"":                         `"\u007f"`,
		"\"\u202edrowssap\u2066\u200b\"":   `"\u202edrowssap\u2066\u200b"`,
		"\"\U000e0041\"":                   `"\udb40\udc41"`,
		"\"a\xff\xc3b\"":                   "\"a\ufffd\ufffdb\"",
		"\"\ufffd\"":                       "\"\ufffd\"",
		"\"\u2028 \u00a0\"":                `"\u2028 \u00a0"`,
		"{\"\u202ekey\": [\"\u0085\", 1]}": `{"\u202ekey": ["\u0085", 1]}`,
	} {
		if got := string(JSON([]byte(text))); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func FuzzJSONMeansTheSame(f *testing.F) {
	for _, seed := range []string{`{}`, "\"\u009b\"", "[\"\U000e0041\", \"\\u009b\", \"\xff\"]", "{\"\u202e\": \"\ufffd\x7f\"}", "[1,\t2,\r\n3]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var meant any
		if json.Unmarshal(text, &meant) != nil {
			return
		}
		safe := JSON(bytes.Clone(text))
		var means any
		if err := json.Unmarshal(safe, &means); err != nil || !reflect.DeepEqual(means, meant) {
			t.Fatalf("%q becomes %q, which means %q and not %q (%v)", text, safe, means, meant, err)
		}
		if !utf8.Valid(safe) || !IsPrintable(strings.NewReplacer("\n", "", "\t", "", "\r", "").Replace(string(safe))) {
			t.Fatalf("%q becomes %q", text, safe)
		}
		if again := JSON(safe); !bytes.Equal(again, safe) {
			t.Fatalf("safe JSON %q becomes %q", safe, again)
		}
	})
}
