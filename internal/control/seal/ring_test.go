package seal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestKeyFileMayHaveCommentsAndCarriageReturns(t *testing.T) {
	one, two := string(Generate()), string(Generate())
	for _, text := range []string{
		one,
		strings.TrimSpace(one),
		"# made today\n\n  " + one + "\t\n",
		strings.ReplaceAll(one+"# the old one\n"+two, "\n", "\r\n"),
	} {
		ring, err := ParseRing([]byte(text))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if _, err := newRing(t, []byte(one)).Open(place, ring.Seal(place, nil)); err != nil {
			t.Errorf("the first line does not seal: %v", err)
		}
	}
}

func TestBadKeyFilesAreRefusedWithTheirLineAndWithoutTheirText(t *testing.T) {
	good := strings.TrimSpace(string(Generate()))
	bytesOf := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, n)) }
	for _, row := range []struct{ name, text, want string }{
		{"empty", "", "key file has no key; restore the line from your copy of the key; only for a store that is still to be made, generate one with: openssl rand -base64 32"},
		{"comments", "# nothing\n\n", "key file has no key"},
		{"short", bytesOf(31), "line 1 of the key file: a key of 31 bytes, want 32"},
		{"long", "#\n" + bytesOf(33), "line 2 of the key file: a key of 33 bytes, want 32"},
		{"no padding", strings.TrimRight(good, "="), "line 1 of the key file: not base64"},
		{"two on a line", good + " " + good, "line 1 of the key file: not base64"},
		{"hex", strings.Repeat("g!", 32), "line 1 of the key file: not base64"},
		{"stray bits", bytesOf(32)[:42] + "d=", "line 1 of the key file: not base64"},
		{"zeros", base64.StdEncoding.EncodeToString(make([]byte, 32)), "line 1 of the key file: a key of zeros"},
		{"twice", good + "\n" + good, "line 2 of the key file: duplicate key"},
		{"too long", strings.Repeat("#\n", maxText), "key file is longer than 65536 bytes"},
		{"too many", manyKeys(maxKeys + 1), "line 65 of the key file: more than 64 keys"},
	} {
		t.Run(row.name, func(t *testing.T) {
			ring, err := ParseRing([]byte(row.text))
			if err == nil || ring != nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Fatalf("got %v, want %s", err, row.want)
			}
			for line := range strings.Lines(row.text) {
				line = strings.TrimSpace(line)
				if len(line) > 8 && line[0] != '#' && strings.Contains(err.Error(), line[:8]) {
					t.Errorf("%v shows a key", err)
				}
			}
		})
	}
	if _, err := ParseRing([]byte(manyKeys(maxKeys))); err != nil {
		t.Errorf("%d keys: %v", maxKeys, err)
	}
}

func TestRingNeverPrintsItsKeys(t *testing.T) {
	text := Generate()
	secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	ring := newRing(t, text)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		printed := fmt.Sprintf(format, ring)
		for _, form := range []string{strings.TrimSpace(string(text)), string(secret[:8]), fmt.Sprintf("%x", secret[:8]), fmt.Sprint(secret[:8])} {
			if strings.Contains(printed, strings.Trim(form, "[]")) {
				t.Errorf("%s shows the key", format)
			}
		}
	}
}

func TestGeneratedKeysAreOneLineEachAndDiffer(t *testing.T) {
	one, two := Generate(), Generate()
	if bytes.Equal(one, two) {
		t.Error("the same key twice")
	}
	if len(one) != 45 || bytes.IndexByte(one, '\n') != 44 {
		t.Errorf("%d bytes", len(one))
	}
}

func FuzzParseRing(f *testing.F) {
	f.Add([]byte("# comment\n" + manyKeys(2)))
	f.Add([]byte("AAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := ParseRing(text)
		if (ring == nil) == (err == nil) {
			t.Fatalf("ring %v, error %v", ring, err)
		}
		if err != nil {
			return
		}
		if plain, err := ring.Open(place, ring.Seal(place, []byte("x"))); err != nil || string(plain) != "x" {
			t.Errorf("%q, %v", plain, err)
		}
	})
}

// manyKeys makes keys that are the same on every run, for the fuzzing corpus.
func manyKeys(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintln(&text, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i + 1)}, keySize)))
	}
	return text.String()
}

func TestMarkInFrontOfAKeyFileIsSkipped(t *testing.T) {
	text := Generate()
	plain, err := ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	marked, err := ParseRing(append([]byte("\ufeff"), text...))
	if err != nil || marked.keys[0].id != plain.keys[0].id {
		t.Errorf("another key, or %v", err)
	}
}
