package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTextThatIsNotOnePlainDocumentIsRefused(t *testing.T) {
	deep := func(open string) string { return "generation: " + strings.Repeat(open, 100_000) }
	for name, c := range map[string]struct{ text, want string }{
		"empty":              {"", "policy.yaml:1: is empty; write the configuration; a file that is being replaced is written beside its place and then renamed"},
		"only a comment":     {"# later\n", "policy.yaml:1: is empty; write the configuration; a file that is being replaced is written beside its place and then renamed"},
		"a list":             {"- a\n", "policy.yaml:1: is a list, not a group of keys; see docs/configuration.md for the form"},
		"NUL":                {"a: 1\nb: \x00\x00", "policy.yaml:2: has a byte 0x00 that is no text; save the file as UTF-8, and write it whole before it is renamed into place"},
		"Latin-1":            {"a: B\xfcro\n", "policy.yaml:1: has a byte 0xfc that is no text; save the file as UTF-8, and write it whole before it is renamed into place"},
		"too large":          {strings.Repeat("#", maxText+1), "policy.yaml: is larger than 128 KiB; shorten it"},
		"too many values":    {"x: [" + strings.Repeat("a,", maxTokens/2) + "]\n", "policy.yaml:1: has more than 30000 values and signs; shorten it; revoked certificates fit better into a revocation list (client_crl)"},
		"anchor and alias":   {"a: &x 1\nb: *x\n", "policy.yaml:1: has an anchor (&); write the value out; quote a text that starts with &\npolicy.yaml:2: has an alias (*); write the value out; quote a text that starts with *"},
		"merge key":          {"<<: {a: 1}\n", "policy.yaml:1: has a merge key (<<); write the keys out"},
		"tag":                {"a: !!str 1\n", "policy.yaml:1: has a tag (!); remove it; quote a text that starts with !"},
		"complex key":        {"? a\n: b\n", "policy.yaml:1: has a complex key (?); write key: value"},
		"two documents":      {"a: 1\n---\nb: 1\n", "policy.yaml:2: starts a second document (---); keep one document in the file"},
		"text after the end": {"a: 1\n...\nb: 1\n", "policy.yaml:3: goes on after the end of the document (...); keep one document in the file"},
		"unclosed bracket":   {"a: 1\nb: [1,\n", "policy.yaml:2: is not valid YAML: sequence end token ']' not found; repair the syntax at or just above this line"},
		"unclosed quote":     {"key: \"-----BEGIN PRIVATE KEY", "policy.yaml:1: is not valid YAML: could not find end character of double-quoted text; repair the syntax at or just above this line"},
		"tab":                {"a:\n\tb: 1\n", "policy.yaml:2: is not valid YAML: found character '\\t' that cannot start any token; repair the syntax at or just above this line"},
		"100,000 brackets":   {deep("["), "policy.yaml:1: is nested deeper than 16 levels; write the keys as the reference shows them"},
		"30,000 braces":      {deep("{a: ")[:maxText-1], "policy.yaml:1: is nested deeper than 16 levels; write the keys as the reference shows them"},
		"60,000 dashes":      {strings.Repeat("- ", 60_000), "policy.yaml:1: is nested deeper than 16 levels; write the keys as the reference shows them"},
		"too many keys":      {strings.Repeat("a:\n", 40_000), "policy.yaml:5001: has more than 5000 keys; write one policy per file"},
		"cut in the last line": {strings.TrimSuffix(good, "{id: office, cidr: 1.2.3.4/32}\n") + "id: office\n    cidr: 1.2.3.4/3", `policy.yaml:8: has no line end at its end, as if the file had been cut; if it is whole, end its last line; if not, write it again
policy.yaml:8: ip_rules[0].cidr: "1.2.3.4/3" has host bits set; write 0.0.0.0/3 for the network or 1.2.3.4/32 for the one address`},
		"the control plane's, cut": {ControlHeader + "orders; generation 1\n" + good, `policy.yaml:9: has the control plane's header and not the last line "...", so its end is missing; let the control plane write it again, or remove the header if the file is yours`},
		"400 nested columns":       {staircase(400), "policy.yaml:17: is nested deeper than 16 levels; write the keys as the reference shows them"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePolicy("policy.yaml", []byte(c.text))
			if got := problems(t, err); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestDatabasesNameIsInTheControlPlanesHeaderOnly(t *testing.T) {
	header := ControlHeader + "38c466b6; generation 1\n"
	for text, want := range map[string]string{
		header + NameHeader("orders") + good + "...\n":             "orders",
		"\ufeff" + header + NameHeader("orders") + good + "...\n":  "orders",
		header + good + "...\n":                                    "", // of an older control plane
		NameHeader("orders") + good:                                "", // somebody's own comment
		"# mine\n" + NameHeader("orders") + good:                   "",
		header + "\n" + NameHeader("orders") + good:                "",
		header + strings.TrimSuffix(NameHeader("orders"), "\n"):    "", // cut
		header + NameHeader(strings.Repeat("x", maxName+1)) + good: "",
		header + NameHeader("a\x1b[2J") + good:                     "",
		header + NameHeader("a\xff") + good:                        "",
		"":                                                         "",
	} {
		if got := HeaderName([]byte(text)); got != want {
			t.Errorf("%q names %q, want %q", text, got, want)
		}
	}
	if _, err := ParsePolicy("policy.yaml", []byte(header+NameHeader("orders")+good+"...\n")); err != nil {
		t.Error(err)
	}
}

func TestControlPlanesFileIsWholeWithItsEnd(t *testing.T) {
	for _, end := range []string{"...\n", "...\n# checked\n", "...\r\n"} {
		if _, err := ParsePolicy("policy.yaml", []byte(ControlHeader+"orders; generation 1\n"+good+end)); err != nil {
			t.Errorf("%q: %v", end, err)
		}
	}
	// Behind the mark that an editor puts in front, too.
	if _, err := ParsePolicy("policy.yaml", []byte("\ufeff"+ControlHeader+"orders; generation 1\n"+good)); err == nil {
		t.Error("the mark hides the header")
	}
}

// staircase is a mapping in a mapping, depth times.
func staircase(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// As much as a file may have of any one thing takes less than a second: a reload must not hold up the one that comes after it.
func TestRepetitionsAreRefusedInBoundedTime(t *testing.T) {
	for _, part := range []string{"! ", "& ", "* ", "? ", "a,", "[", "---\n", "a:\n", "a: b\n", "- a\n", "# c\n", "\n", " ", "\t", "'", "\"", ":", ": ", ",", "a: ", "|\n", "%a\n", "<<: ", "{}", "[]", "- - ", "{a: ", "x\n\n"} {
		start := time.Now()
		_, err := ParsePolicy("policy.yaml", []byte(strings.Repeat(part, maxText/len(part))))
		if err == nil {
			t.Errorf("%q: no error", part)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("%q took %v", part, d)
		}
	}
}

func TestLinesAreRightBehindEveryKindOfText(t *testing.T) {
	for name, before := range map[string]string{
		"comment":       "# one\n# two\n\n",
		"literal":       "generation: |\n  one\n  two\n\n",
		"folded":        "generation: >-\n  one\n  two\n",
		"quoted":        "generation: \"one\n  two\n  three\"\n",
		"single quoted": "generation: 'one\n  two'\n",
		"plain":         "generation: one\n  two\n",
		"flow":          "client_ca: [\n  a.pem,\n  b.pem\n]\n",
		"CRLF":          "generation: one\r\nclient_ca: [a]\r\n",
		"mark":          "\ufeff# one\n",
		"header":        "---\ngeneration: one\n",
	} {
		_, err := ParsePolicy("policy.yaml", []byte(before+"on_removal: never\n"))
		line := strings.Count(before, "\n") + 1
		if want := fmt.Sprintf("policy.yaml:%d: on_removal: ", line); !strings.Contains(problems(t, err), want) {
			t.Errorf("%s: want %q in\n%v", name, want, err)
		}
	}
}

func TestReportEndsAfterFiftyProblems(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	_, err := ParsePolicy("policy.yaml", []byte(b.String()))
	lines := strings.Split(problems(t, err), "\n")
	if len(lines) != 51 || lines[50] != "policy.yaml: has 953 more problems; repair these first" {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}

// The control plane writes policies as JSON. What encoding/json writes, in whatever layout, must come back as it was.
func TestJSONDocumentIsReadAsItWasMeant(t *testing.T) {
	texts := []string{
		"plain", "42", "true", "null", "~", "off", "2027-01-01T00:00:00Z", "1e3", "0x1f", "", "a: b", "- a", "# no comment", "a #b", "{x}", "[x]",
		"'", `"`, `\`, `\n`, "é", "🏢", "\u2028", "\u00a0", "<&>", "a, b", "&a", "*a", "!a", "%a", "@a", "`a", "|", ">", "?", ":", "-", "---", "...", "<<", " lead", "trail ", "two  spaces", "a\tb", "a\nb", "\u202e",
	}
	doc := map[string]any{"client_auth": "off", "certificates": []any{map[string]any{"cert": "a.crt", "key": "a.key", "default": true}}}
	var rules []any
	for i, s := range texts {
		rules = append(rules, map[string]any{"id": fmt.Sprint("r", i), "cidr": fmt.Sprintf("10.0.%d.0/24", i), "description": s, "expires_at": "2027-01-01T00:00:00Z"})
	}
	doc["ip_rules"] = rules
	compact, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	layouts := map[string][]byte{"compact": compact}
	for name, indent := range map[string]string{"tabs": "\t", "two spaces": "  ", "none": ""} {
		if layouts[name], err = json.MarshalIndent(doc, "", indent); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range layouts {
		p, err := ParsePolicy("policy.json", append(text, '\n'))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, s := range texts {
			if got := p.IPRules[i].Description; got != s {
				t.Errorf("%s: %q came back as %q", name, s, got)
			}
		}
	}
}

func TestJSONAndYAMLOfOnePolicyAreEqual(t *testing.T) {
	fromYAML, err := ParsePolicy("p", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := ParsePolicy("p", []byte(`{
	"generation": "42",
	"client_ca": ["space-ca.pem"],
	"certificates": [
		{"cert": "private.crt", "key": "private.key", "default": true},
		{"cert": "public.crt", "key": "public.key"}
	],
	"ip_rules": [{"id": "office", "cidr": "1.2.3.4/32"}]
}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Policy{fromYAML, fromJSON} {
		p.ClientCA[0].Position, p.IPRules[0].Position = Position{}, Position{}
		for i := range p.Certificates {
			c := &p.Certificates[i]
			c.Position, c.Cert.Position, c.Key.Position = Position{}, Position{}, Position{}
		}
	}
	if !reflect.DeepEqual(fromYAML, fromJSON) {
		t.Errorf("\nYAML %+v\nJSON %+v", fromYAML, fromJSON)
	}
}
