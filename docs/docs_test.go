// Package docs_test holds the documents against the code: a table that lists what the code has lists all of it, an example
// is accepted, a sample is what the program says, and a link leads somewhere. docs/configuration.md is held by package
// config.
package docs_test

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/drain"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
	"pgmtls-proxy/internal/tlsconf"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rows gives the cells of the table between the two comments of a document, without its head. Backquotes are taken off.
func rows(t *testing.T, name, begin, end string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, name), "<!-- "+begin+" -->\n")
	table, _, closed := strings.Cut(rest, "<!-- "+end+" -->")
	if !found || !closed {
		t.Fatalf("%s has no table between <!-- %s --> and <!-- %s -->", name, begin, end)
	}
	var list [][]string
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "`", "")
		}
		if cells[len(cells)-1] == "" {
			t.Errorf("%s: %s has an empty last cell", name, cells[0])
		}
		list = append(list, cells)
	}
	return list
}

// first gives the first cell of each row.
func first(list [][]string) []string {
	var names []string
	for _, cells := range list {
		names = append(names, cells[0])
	}
	return names
}

// same compares two lists as sets, and names what is in one of them only.
func same(t *testing.T, document string, documented, real []string) {
	t.Helper()
	slices.Sort(documented)
	slices.Sort(real)
	for _, name := range slices.Compact(real) {
		if !slices.Contains(documented, name) {
			t.Errorf("%s lacks %s", document, name)
		}
	}
	for i, name := range documented {
		if !slices.Contains(real, name) {
			t.Errorf("%s has %s, which is not there", document, name)
		}
		if i > 0 && documented[i-1] == name {
			t.Errorf("%s has %s twice", document, name)
		}
	}
}

// A line of the golden file is "name type label label".
func TestEverySeriesIsExplained(t *testing.T) {
	var real, documented []string
	for line := range strings.Lines(read(t, "../internal/metrics/testdata/series.txt")) {
		fields := strings.Fields(line)
		labels := strings.Join(fields[2:], ", ")
		if labels == "" {
			labels = "-"
		}
		real = append(real, strings.Join([]string{fields[0], fields[1], labels}, " | "))
	}
	for _, cells := range rows(t, "monitoring.md", "series", "end of series") {
		documented = append(documented, strings.Join(cells[:3], " | "))
	}
	same(t, "monitoring.md", documented, real)
}

// The states of the diagram are the steps and what comes before them; the table has the steps in which something is left.
func TestStepsOfADrainAreThoseOfTheCode(t *testing.T) {
	var real, drawn []string
	for _, step := range drain.Steps {
		real = append(real, string(step))
	}
	_, diagram, _ := strings.Cut(read(t, "lifecycle.md"), "stateDiagram-v2\n")
	diagram, _, _ = strings.Cut(diagram, "```")
	for _, arrow := range regexp.MustCompile(`(\w+) --> (\w+):`).FindAllStringSubmatch(diagram, -1) {
		drawn = append(drawn, arrow[1], arrow[2])
	}
	slices.Sort(drawn)
	same(t, "the diagram of lifecycle.md", slices.Compact(drawn), append([]string{"serving"}, real...))
	same(t, "lifecycle.md", first(rows(t, "lifecycle.md", "steps", "end of steps")), slices.DeleteFunc(real, func(step string) bool { return step == string(drain.Drained) }))
}

// An alert without a section has nothing to lead to, and a section without an alert is of the past.
func TestEveryAlertHasItsRunbook(t *testing.T) {
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "../deploy/prometheus/alerts.yaml")), &alerts); err != nil {
		t.Fatal(err)
	}
	var real []string
	for _, group := range alerts.Groups {
		for _, rule := range group.Rules {
			real = append(real, rule.Alert)
			if url, want := rule.Annotations["runbook_url"], "docs/runbooks.md#"+strings.ToLower(rule.Alert); url != want {
				t.Errorf("the runbook_url of %s is %q, not %q", rule.Alert, url, want)
			}
		}
	}
	var sections []string
	for _, match := range regexp.MustCompile(`(?m)^### (Pgmtls\w+)$`).FindAllStringSubmatch(read(t, "runbooks.md"), -1) {
		sections = append(sections, match[1])
	}
	same(t, "runbooks.md", sections, real)
}

// What stands between two ellipses of a message is a text of the code.
func TestEventsOfTheLogAreThoseOfTheCode(t *testing.T) {
	texts := textsOf(t, "../cmd/pgmtls-proxy", "../internal")
	for _, cells := range rows(t, "monitoring.md", "events", "end of events") {
		for _, message := range strings.Split(cells[0], ", ") {
			for _, part := range strings.Split(message, "…") {
				if part = strings.TrimSpace(part); part != "" && !strings.Contains(texts, part) {
					t.Errorf("monitoring.md has the event %q, and nothing in the code says %q", message, part)
				}
			}
		}
	}
}

// textsOf gives the texts of the product code of the proxy below some directories, one a line.
func textsOf(t *testing.T, roots ...string) string {
	t.Helper()
	var texts strings.Builder
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && entry.Name() == "control" {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					texts.WriteString(unquote(t, literal) + "\n")
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts.String()
}

func TestPathsOfTheAdminAddressAreThoseOfTheCode(t *testing.T) {
	var real []string
	for _, match := range regexp.MustCompile(`mux\.Handle(?:Func)?\("((?:GET|POST) /[a-z-]+)"`).FindAllStringSubmatch(read(t, "../internal/admin/admin.go"), -1) {
		real = append(real, match[1])
	}
	if len(real) < 5 {
		t.Fatalf("found only %q: are paths registered in another way now?", real)
	}
	same(t, "monitoring.md", first(rows(t, "monitoring.md", "admin paths", "end of admin paths")), real)
}

// The fields of the log are the names that session/accesslog.go gives to zerolog, and zerolog's own.
func TestEveryFieldOfTheLogIsExplained(t *testing.T) {
	real := slices.Concat([]string{"level", "time", "message"}, logFields(t, "../internal/session/accesslog.go"))
	same(t, "monitoring.md", first(rows(t, "monitoring.md", "fields of the log", "end of fields")), real)
}

func logFields(t *testing.T, name string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	setters := []string{"Str", "Stringer", "Int", "Int64", "Bool", "Dur", "Time", "AnErr"}
	var fields []string
	ast.Inspect(file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		literal, isText := call.Args[0].(*ast.BasicLit)
		if ok && isText && slices.Contains(setters, method.Sel.Name) {
			fields = append(fields, unquote(t, literal))
		}
		return true
	})
	if len(fields) < 10 {
		t.Fatalf("found only %q in %s: does it log in another way now?", fields, name)
	}
	return fields
}

func unquote(t *testing.T, literal *ast.BasicLit) string {
	t.Helper()
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSampleOfTheLogHasKnownFields(t *testing.T) {
	known := first(rows(t, "monitoring.md", "fields of the log", "end of fields"))
	samples := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(read(t, "monitoring.md"), -1)
	if len(samples) == 0 {
		t.Fatal("there is no sample")
	}
	for _, sample := range samples {
		var event map[string]any
		if err := json.Unmarshal([]byte(sample[1]), &event); err != nil {
			t.Fatal(err)
		}
		for field := range maps.Keys(event) {
			if !slices.Contains(known, field) {
				t.Errorf("the sample has the field %s, which the table lacks", field)
			}
		}
	}
}

var update = flag.Bool("update", false, "write what can be read off the code into the documents")

func TestRoomsAreThoseOfTheTree(t *testing.T) {
	real := map[string]string{}
	for name, imports := range packagesOfInternal(t) {
		real[name] = "-"
		if len(imports) > 0 {
			real[name] = "`" + strings.Join(imports, "`, `") + "`"
		}
	}
	if *update {
		row := regexp.MustCompile("(?m)^(\\| `([a-z0-9/]+)` \\| .* \\| )[^|]*( \\|)$")
		before, rest, _ := strings.Cut(read(t, "architecture.md"), "<!-- imports -->")
		table, after, _ := strings.Cut(rest, "<!-- end of imports -->")
		table = row.ReplaceAllStringFunc(table, func(line string) string {
			parts := row.FindStringSubmatch(line)
			return parts[1] + real[parts[2]] + parts[3]
		})
		if err := os.WriteFile("architecture.md", []byte(before+"<!-- imports -->"+table+"<!-- end of imports -->"+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var documented, wanted []string
	for _, cells := range rows(t, "architecture.md", "imports", "end of imports") {
		documented = append(documented, cells[0]+": "+cells[2])
	}
	for name, imports := range real {
		wanted = append(wanted, name+": "+strings.ReplaceAll(imports, "`", ""))
	}
	same(t, "architecture.md", documented, wanted)
}

// packagesOfInternal lists the packages below internal, each with those that its product code imports.
func packagesOfInternal(t *testing.T) map[string][]string {
	t.Helper()
	const prefix = "pgmtls-proxy/internal/"
	output, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "../internal/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string][]string{}
	for line := range strings.Lines(string(output)) {
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[0], prefix)
		packages[name] = nil
		for _, imported := range words[1:] {
			if inner, ok := strings.CutPrefix(imported, prefix); ok {
				packages[name] = append(packages[name], inner)
			}
		}
	}
	return packages
}

// The first line of an example says which file it is.
func TestExamplesAreAccepted(t *testing.T) {
	parsed := 0
	for _, match := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, "../README.md"), -1) {
		var err error
		switch example := match[1]; {
		case strings.HasPrefix(example, "# proxy.yaml"):
			_, err = config.ParseProxy("proxy.yaml", []byte(example))
		case strings.HasPrefix(example, "# policy/policy.yaml"):
			_, err = config.ParsePolicy("policy.yaml", []byte(example))
		default:
			continue
		}
		parsed++
		if err != nil {
			t.Errorf("%v\nin\n%s", err, match[1])
		}
	}
	if parsed != 2 {
		t.Errorf("README.md has %d examples, not one of each file", parsed)
	}
}

func TestSampleRefusalsAreReal(t *testing.T) {
	stranger := policy.RefuseAddress(policy.Request{Addr: netip.MustParseAddr("198.51.100.9"), User: "app", Database: "app"})
	trust, err := tlsconf.NewClientVerifier(tlsconf.TrustFiles{CAs: []tlsconf.File{{Name: "ca.pem", Text: testpki.MustCA(t, "Space CA").PEM()}}})
	if err != nil {
		t.Fatal(err)
	}
	_, without := trust.Verify(nil, time.Now())
	for _, sample := range []struct {
		document string
		refused  *refusal.Refusal
		id       string
	}{
		{"../README.md", stranger, "8aq0as81xzf56"},
		{"../README.md", without, "2v37rs204jz70"},
		{"clients.md", refusal.New(refusal.CertificateExpired, `Client certificate "CN=app" `+
			"(serial 1d:e8:64:93:5f:31:04:e0:28:ab:8e:b0:28:48:55:ff, valid until 2026-11-21 01:58:56 UTC) has expired."), "7nd7b0002kr7p"},
	} {
		r := sample.refused.Response(sample.id)
		want := "FATAL:  " + r.Message + "\n" // as psql prints it
		if r.Detail != "" {
			want += "DETAIL:  " + r.Detail + "\n"
		}
		want += "HINT:  " + r.Hint + "\n"
		if !strings.Contains(read(t, sample.document), want) {
			t.Errorf("%s does not show\n%s", sample.document, want)
		}
	}
}
