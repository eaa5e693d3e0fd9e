package docs_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/printer"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	limitTable = regexp.MustCompile(`(?s)<!-- limits[^>]* -->\n(.*?)<!-- end of limits -->`)
	limitName  = regexp.MustCompile("`([^`]+)`")
)

// The second column holds the values of what the third names, in the same order.
func TestLimitsAreThoseOfTheCode(t *testing.T) {
	defaults := defaultsOfKeys(t)
	constants := make(map[string]map[string]string) // by directory
	text := read(t, "limits.md")
	listed := make(map[string]bool)
	updated := limitTable.ReplaceAllStringFunc(text, func(table string) string {
		lines := strings.Split(table, "\n")
		for i, line := range lines[3:] {
			cells := strings.Split(line, " | ")
			if len(cells) != 4 {
				continue // the end of the table
			}
			var values []string
			for _, match := range limitName.FindAllStringSubmatch(cells[2], -1) {
				name := match[1]
				listed[name] = true
				if value, ok := defaults[name]; ok {
					values = append(values, value)
					continue
				}
				directory, constantName := cutConstant(name)
				if constants[directory] == nil {
					constants[directory] = constantsOf(t, directory)
				}
				value, ok := constants[directory][constantName]
				if !ok {
					t.Errorf("limits.md: %s is neither a key with a default nor a constant", name)
				}
				values = append(values, value)
			}
			if len(values) == 0 {
				t.Errorf("limits.md: %q does not say what sets it", cells[0])
			}
			if want := strings.Join(values, ", "); cells[1] != want {
				if !*update {
					t.Errorf("limits.md: %s is %s, and the code has %s", strings.TrimPrefix(cells[0], "| "), cells[1], want)
				}
				cells[1] = want
				lines[3+i] = strings.Join(cells, " | ")
			}
		}
		return strings.Join(lines, "\n")
	})
	if *update && updated != text {
		if err := os.WriteFile("limits.md", []byte(updated), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(listed) < 60 {
		t.Errorf("limits.md lists only %d limits: does the test still find its tables?", len(listed))
	}
	for key := range defaults {
		if strings.HasPrefix(key, "limits.") && !listed[key] && !strings.Contains(text, "`"+key+"`") {
			t.Errorf("limits.md lacks %s", key)
		}
	}
}

// cutConstant splits "session.maxCancels" into the package's directory and the constant's name.
func cutConstant(name string) (directory, constantName string) {
	slash := strings.LastIndex(name, "/") + 1
	packageName, constantName, _ := strings.Cut(name[slash:], ".")
	if strings.HasPrefix(name, "cmd/") {
		return "../" + name[:slash] + packageName, constantName
	}
	return "../internal/" + name[:slash] + packageName, constantName
}

// defaultsOfKeys reads the configuration reference, which package config holds against the decoder.
func defaultsOfKeys(t *testing.T) map[string]string {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| (\\w+)[^|]* \\| `([^`]+)` \\|")
	defaults := make(map[string]string)
	for _, match := range row.FindAllStringSubmatch(read(t, "configuration.md"), -1) {
		key, kind, value := match[1], match[2], match[3]
		switch kind {
		case "duration":
			defaults[key] = formatDuration(t, value)
		case "number":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Fatalf("default of %s: %v", key, err)
			}
			defaults[key] = formatNumber(n)
		}
		if value == "0" || value == "0s" {
			defaults[key] = "off"
		}
	}
	return defaults
}

func formatDuration(t *testing.T, value string) string {
	t.Helper()
	if days, ok := strings.CutSuffix(value, "d"); ok {
		return days + " d"
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		t.Fatal(err)
	}
	return formatTime(d)
}

func formatTime(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, " d"}, {time.Hour, " h"}, {time.Minute, " min"}, {time.Second, " s"}, {time.Millisecond, " ms"}} {
		if d%unit.of == 0 {
			return formatNumber(int64(d/unit.of)) + unit.name
		}
	}
	return d.String()
}

// formatNumber separates thousands.
func formatNumber(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// units are the constants of package time in nanoseconds, so that an expression with them is one of integers.
var units = strings.NewReplacer("time.Millisecond", "1000000", "time.Second", "1000000000",
	"time.Minute", "60000000000", "time.Hour", "3600000000000")

// constantsOf gives the constants of a directory's product code, as limits.md writes them. The fields of a variable that is a
// composite literal count as well, as "Variable.Field".
func constantsOf(t *testing.T, directory string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(directory + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	add := func(name string, value ast.Expr) {
		if text, ok := evaluate(t, value); ok {
			found[name] = text
		}
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				values, ok := spec.(*ast.ValueSpec)
				if !ok || len(values.Names) != len(values.Values) {
					continue
				}
				for i, name := range values.Names {
					if general.Tok == token.CONST {
						add(name.Name, values.Values[i])
						continue
					}
					if literal, ok := values.Values[i].(*ast.CompositeLit); ok {
						for _, element := range literal.Elts {
							if pair, ok := element.(*ast.KeyValueExpr); ok {
								if field, ok := pair.Key.(*ast.Ident); ok {
									add(name.Name+"."+field.Name, pair.Value)
								}
							}
						}
					}
				}
			}
		}
	}
	return found
}

// evaluate computes an expression of integers: a duration if it has a unit of package time, bytes if it has a shift.
func evaluate(t *testing.T, expression ast.Expr) (text string, ok bool) {
	t.Helper()
	var source strings.Builder
	if err := printer.Fprint(&source, token.NewFileSet(), expression); err != nil {
		t.Fatal(err)
	}
	value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, units.Replace(source.String()))
	if err != nil || value.Value == nil || value.Value.Kind() != constant.Int {
		return "", false
	}
	n, exact := constant.Int64Val(value.Value)
	switch {
	case !exact:
		return "", false
	case strings.Contains(source.String(), "time."):
		return formatTime(time.Duration(n)), true
	case strings.Contains(source.String(), "<<"):
		for _, unit := range []struct {
			of   int64
			name string
		}{{1 << 30, " GiB"}, {1 << 20, " MiB"}, {1 << 10, " KiB"}} {
			if n%unit.of == 0 {
				return formatNumber(n/unit.of) + unit.name, true
			}
		}
	}
	return formatNumber(n), true
}
