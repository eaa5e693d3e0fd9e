package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever the control plane keeps is under a key that begins with a constant named key… or Key…, of which the table says
// what it holds and who deletes it.
func TestStoreKeysAreThoseOfTheCode(t *testing.T) {
	same(t, "the table of keys in architecture.md", first(rows(t, "architecture.md", "keys of the store", "end of keys")), storeKeys(t))
}

// storeKeys returns the texts from which the control plane makes the keys of its records. They have a slash, which no other
// constant of such a name has.
func storeKeys(t *testing.T) (keys []string) {
	t.Helper()
	err := filepath.WalkDir("../internal/control", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.CONST {
				continue
			}
			for _, spec := range general.Specs {
				constants := spec.(*ast.ValueSpec)
				for i, name := range constants.Names {
					if !strings.HasPrefix(strings.ToLower(name.Name), "key") || i >= len(constants.Values) {
						continue
					}
					if literal, ok := constants.Values[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
						if key := unquote(t, literal); strings.Contains(key, "/") {
							keys = append(keys, key)
						}
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
