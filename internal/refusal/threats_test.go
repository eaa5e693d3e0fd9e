package refusal

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A threat model whose tests have been renamed or removed says more than is true.
func TestThreatModelNamesTestsThatExist(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 50 {
		t.Fatalf("the threat model names %d tests; has its form changed?", len(named))
	}
	declared := testsBelow(t, root)
	for _, match := range named {
		if !declared[match[1]] {
			t.Errorf("docs/threat-model.md names %s, which does not exist", match[1])
		}
	}
	// Each row names a test, or says that there is none.
	for line := range strings.Lines(string(text)) {
		if regexp.MustCompile(`^\| \d`).MatchString(line) && !strings.Contains(line, "`Test") && !strings.Contains(line, "**not yet") {
			t.Errorf("docs/threat-model.md has a row without a test: %.60s", line)
		}
	}
}

// testsBelow are the names of the tests, fuzz targets and benchmarks of a tree.
func testsBelow(t *testing.T, root string) map[string]bool {
	t.Helper()
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		for _, match := range declaration.FindAllStringSubmatch(string(source), -1) {
			names[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
