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

// The second column names the functions that start the goroutine. A goroutine is started by a go statement, or by the Go method of
// a group that is waited for.
func TestEveryGoroutineHasAnOwner(t *testing.T) {
	proxy := goroutinesOf(t, "../cmd/pgmtls-proxy", "../internal")
	daemon := goroutinesOf(t, "../cmd/pgmtls", "../internal/control")
	if len(proxy) < 10 || len(daemon) < 10 {
		t.Fatalf("found only %q and %q", proxy, daemon)
	}
	same(t, "architecture.md", startedIn(t, "goroutines of the proxy"), proxy)
	same(t, "architecture.md", startedIn(t, "goroutines of the control plane"), daemon)
}

func startedIn(t *testing.T, table string) []string {
	t.Helper()
	var list []string
	for _, cells := range rows(t, "architecture.md", table, "end of goroutines") {
		list = append(list, strings.Split(cells[1], ", ")...)
	}
	return list
}

// goroutinesOf lists the functions that start goroutines: those of a program, and those of the packages below a directory, without
// what belongs to the other program or to tests.
func goroutinesOf(t *testing.T, program, packages string) []string {
	t.Helper()
	var found []string
	for _, root := range []string{program, packages} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && path != root && (entry.Name() == "testkit" || entry.Name() == "control" || entry.Name() == "archtest"):
				return filepath.SkipDir
			case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				found = append(found, startersOf(t, path)...)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// startersOf lists the functions of a file that start goroutines, as package.Function or package.Type.Method.
func startersOf(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	directory := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../")
	directory = strings.TrimPrefix(directory, "internal/")
	var found []string
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := directory + "."
		if function.Recv != nil {
			receiver := function.Recv.List[0].Type
			if pointer, ok := receiver.(*ast.StarExpr); ok {
				receiver = pointer.X
			}
			if named, ok := receiver.(*ast.Ident); ok {
				name += named.Name + "."
			}
		}
		starts := false
		ast.Inspect(function, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.GoStmt:
				starts = true
			case *ast.CallExpr:
				method, ok := node.Fun.(*ast.SelectorExpr)
				starts = starts || ok && method.Sel.Name == "Go"
			}
			return true
		})
		if starts {
			found = append(found, name+function.Name.Name)
		}
	}
	return found
}
