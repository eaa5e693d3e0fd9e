package config

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md from the decoder's rows")

const reference = "../../docs/configuration.md"

// table is the reference of the keys as Markdown.
func table(keys []Key) string {
	var b strings.Builder
	b.WriteString("| key | type | default | bounds | meaning |\n| --- | --- | --- | --- | --- |\n")
	rows(&b, "", keys)
	return b.String()
}

func rows(b *strings.Builder, prefix string, keys []Key) {
	for _, k := range keys {
		def := "-"
		switch {
		case k.Required:
			def = "required"
		case k.Default != "":
			def = "`" + k.Default + "`"
		case k.Absent != "":
			def = k.Absent
		}
		bounds := k.Bounds
		if bounds == "" {
			bounds = "-"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s | %s |\n", prefix, k.Name, k.Type, def, bounds, k.Meaning)
		inner := prefix + k.Name + "."
		if strings.HasPrefix(k.Type, "list") {
			inner = prefix + k.Name + "[]."
		}
		rows(b, inner, k.Keys)
	}
}

func TestReferenceHasTheDecodersKeys(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for name, keys := range map[string][]Key{"proxy.yaml": keys(proxyFields), "policy.yaml": keys(policyFields), "pgmtls.yaml": keys(controlFields)} {
		begin, end := "<!-- keys of "+name+": generated -->\n", "<!-- end of keys -->"
		i := strings.Index(doc, begin)
		if i < 0 {
			t.Fatalf("%s has no line %q", reference, begin)
		}
		i += len(begin)
		j := i + strings.Index(doc[i:], end)
		if want := table(keys); doc[i:j] != want {
			if !*update {
				t.Errorf("the table of %s is not the decoder's; run: go test ./internal/config -run Reference -update", name)
				continue
			}
			doc = doc[:i] + want + doc[j:]
		}
	}
	if *update {
		if err := os.WriteFile(reference, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The first line of an example says which file it is, or what is to be made of it.
func TestExamplesOfTheReferenceParse(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```(?:yaml|json)\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	parsed := map[string]int{}
	for _, e := range examples {
		var err error
		switch example := e[1]; {
		case strings.HasPrefix(example, "# proxy.yaml"):
			parsed["proxy.yaml"]++
			_, err = ParseProxy("proxy.yaml", []byte(example))
		case strings.HasPrefix(example, "# policy.yaml"), strings.HasPrefix(example, "{"):
			parsed["policy.yaml"]++
			_, err = ParsePolicy("policy.yaml", []byte(example))
		case strings.HasPrefix(example, "# pgmtls.yaml"):
			parsed["pgmtls.yaml"]++
			_, err = ParseControl("pgmtls.yaml", []byte(example))
		default:
			t.Errorf("an example's first line is not # proxy.yaml, # policy.yaml or # pgmtls.yaml:\n%s", example)
		}
		if err != nil {
			t.Errorf("%v\nin\n%s", err, e[1])
		}
	}
	if parsed["proxy.yaml"] < 2 || parsed["policy.yaml"] < 3 || parsed["pgmtls.yaml"] < 3 {
		t.Errorf("examples: %v", parsed)
	}
}

// What the reference shows as a report is what the program prints.
func TestReportOfTheReferenceIsReal(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParsePolicy("policy.yaml", []byte(strings.Split(good, "ip_rules")[0]+"ip_rules:\n  - {id: office, cdir: 203.0.113.7/32}\n  - {id: vpn, cidr: 10.0.0.1/8}\n"))
	if report := problems(t, err); !strings.Contains(string(text), report) {
		t.Errorf("the reference lacks\n%s", report)
	}
}
