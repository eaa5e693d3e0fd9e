package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the prefix of this repository's import paths.
const module = "pgmtls-proxy"

// root is the repository, seen from this package's directory, in which its tests run.
const root = "../.."

// source is one Go file.
type source struct {
	path   string // from the repository's root, with slashes
	syntax *ast.File
	set    *token.FileSet
	text   []byte
	test   bool // of package x or x_test, in a file named _test.go
}

// dir is the file's package directory, which is its import path without the module.
func (s *source) dir() string { return path.Dir(s.path) }

// lines counts the lines of the file.
func (s *source) lines() int { return bytes.Count(s.text, []byte("\n")) }

// complain names the place and the rule.
func (s *source) complain(at token.Pos, format string, args ...any) string {
	line := 1
	if at.IsValid() {
		line = s.set.Position(at).Line
	}
	return fmt.Sprintf("%s:%d: %s", s.path, line, fmt.Sprintf(format, args...))
}

// imports gives the imported paths by the name under which the file knows them.
func (s *source) imports() map[string]string {
	byName := map[string]string{}
	for _, spec := range s.syntax.Imports {
		imported := importPath(spec)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		byName[name] = imported
	}
	return byName
}

func importPath(spec *ast.ImportSpec) string {
	imported, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		panic(err) // the parser accepted it
	}
	return imported
}

// parse reads one file; the path decides whether it is a test.
func parse(name string, text []byte) (*source, error) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &source{path: name, syntax: syntax, set: set, text: text, test: strings.HasSuffix(name, "_test.go")}, nil
}

// tree returns every Go file of the module, which all tests share and none changes.
func tree(t *testing.T) []*source {
	t.Helper()
	sources, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// readTree reads every Go file of the module once, whatever its build tags. Directories that start with a dot, testdata,
// and modules of their own (tools) are not part of it.
var readTree = sync.OnceValues(func() (sources []*source, err error) {
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == root {
				return nil
			}
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			if strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || nested == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file, err := parse(filepath.ToSlash(relative), text)
		sources = append(sources, file)
		return err
	})
	return sources, err
})

// report fails the test with every complaint.
func report(t *testing.T, complaints []string) {
	t.Helper()
	for _, complaint := range complaints {
		t.Error(complaint)
	}
}
