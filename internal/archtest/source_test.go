package archtest

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"
)

// maxLines is where a file has become more than one concept. The usual length is 250.
const maxLines = 400

// longFiles are longer, each for the reason that stands here.
var longFiles = map[string]string{}

// Each rule looks at one file and says what is wrong with it.
var rules = []func(*source) []string{
	noGlobalLoggersOrRegistries,
	noSleepInTests,
	noExitInTheMiddle,
	nothingUnfinished,
	notTooLong,
}

func TestSourcesKeepTheHabits(t *testing.T) {
	for _, file := range tree(t) {
		for _, rule := range rules {
			report(t, rule(file))
		}
	}
}

func TestLongFilesAreStillLong(t *testing.T) {
	long := map[string]bool{}
	for _, file := range tree(t) {
		long[file.path] = file.lines() > maxLines
	}
	for name := range longFiles {
		if !long[name] {
			t.Errorf("%s needs no exception any more: it has at most %d lines, or is gone", name, maxLines)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	report(t, packageCommentComplaints(tree(t)))
}

// packageCommentComplaints wants one package comment in each package: "Package session …", and for a command
// "Command pgmtls-proxy …" or "Pgmtls-proxy …".
func packageCommentComplaints(sources []*source) []string {
	var complaints []string
	comments := map[string]int{}
	first := map[string]*source{}
	for _, file := range sources {
		if file.test {
			continue
		}
		dir := file.dir()
		if first[dir] == nil {
			first[dir] = file
		}
		if file.syntax.Doc == nil {
			continue
		}
		comments[dir]++
		name, text := file.syntax.Name.Name, file.syntax.Doc.Text()
		starts := []string{"Package " + name + " "}
		if name == "main" {
			command := path.Base(dir)
			starts = []string{"Command " + command + " ", strings.ToUpper(command[:1]) + command[1:] + " "}
		}
		if !hasAnyPrefix(text, starts) {
			complaints = append(complaints, file.complain(file.syntax.Doc.Pos(), "the package comment must start with %q", starts))
		}
	}
	for dir, file := range first {
		switch comments[dir] {
		case 1:
		case 0:
			complaints = append(complaints, file.complain(file.syntax.Package, "package %s has no package comment: say what it is, what it is not, and where it stands in the flow", dir))
		default:
			complaints = append(complaints, file.complain(file.syntax.Package, "package %s has %d package comments: go doc would glue them together", dir, comments[dir]))
		}
	}
	return complaints
}

func hasAnyPrefix(text string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// Loggers and registries are values that main makes and passes on, so that two proxies can live in one test.
func noGlobalLoggersOrRegistries(file *source) []string {
	if file.test {
		return nil
	}
	imports := file.imports()
	var complaints []string
	for _, declaration := range file.syntax.Decls {
		variables, ok := declaration.(*ast.GenDecl)
		if !ok || variables.Tok != token.VAR {
			continue
		}
		eachSelector(variables, func(selector *ast.SelectorExpr, qualifier string) {
			imported := imports[qualifier]
			if strings.HasPrefix(imported, "github.com/rs/zerolog") || strings.HasPrefix(imported, "github.com/prometheus/") {
				complaints = append(complaints, file.complain(selector.Pos(), "a package variable holds %s.%s: pass it in", qualifier, selector.Sel.Name))
			}
		})
	}
	globals := map[string][]string{
		"github.com/prometheus/client_golang/prometheus":          {"MustRegister", "Register", "Unregister", "DefaultRegisterer", "DefaultGatherer"},
		"github.com/prometheus/client_golang/prometheus/promhttp": {"Handler"},
		"net/http": {"Handle", "HandleFunc", "DefaultServeMux", "ListenAndServe", "ListenAndServeTLS"},
	}
	eachSelector(file.syntax, func(selector *ast.SelectorExpr, qualifier string) {
		for _, name := range globals[imports[qualifier]] {
			if selector.Sel.Name == name {
				complaints = append(complaints, file.complain(selector.Pos(), "%s.%s is or uses a global: pass the registry, or the mux, in", qualifier, name))
			}
		}
	})
	return complaints
}

// A sleep is too short on a busy machine and too long on every other.
func noSleepInTests(file *source) []string {
	if !file.test {
		return nil
	}
	imports := file.imports()
	var complaints []string
	eachSelector(file.syntax, func(selector *ast.SelectorExpr, qualifier string) {
		if imports[qualifier] == "time" && selector.Sel.Name == "Sleep" {
			complaints = append(complaints, file.complain(selector.Pos(), "time.Sleep in a test: use testing/synctest, or poll with a deadline"))
		}
	})
	return complaints
}

// os.Exit stands once in a program, in func main, so that every deferred call of everything else runs. log.Fatal
// is the same in disguise. Tests may: a test program that plays another one has to.
func noExitInTheMiddle(file *source) []string {
	if file.test {
		return nil
	}
	imports := file.imports()
	var complaints []string
	seen := 0
	for _, declaration := range file.syntax.Decls {
		function, _ := declaration.(*ast.FuncDecl)
		inMain := function != nil && function.Recv == nil && function.Name.Name == "main" && file.syntax.Name.Name == "main"
		eachSelector(declaration, func(selector *ast.SelectorExpr, qualifier string) {
			switch {
			case imports[qualifier] == "log" && strings.HasPrefix(selector.Sel.Name, "Fatal"):
				complaints = append(complaints, file.complain(selector.Pos(), "log.%s ends the program here: return an error", selector.Sel.Name))
			case imports[qualifier] == "os" && selector.Sel.Name == "Exit":
				if seen++; !inMain || seen > 1 {
					complaints = append(complaints, file.complain(selector.Pos(), "os.Exit stands once, in func main: return an error"))
				}
			}
		})
	}
	return complaints
}

// unfinished matches the marks of work left for later. It is put together here so that it does not match itself.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)

// What is left to do is an issue, where it is seen and planned.
func nothingUnfinished(file *source) []string {
	var complaints []string
	for _, at := range unfinished.FindAllIndex(file.text, -1) {
		pos := file.set.File(file.syntax.FileStart).Pos(at[0])
		complaints = append(complaints, file.complain(pos, "%s: finish it, or file an issue", file.text[at[0]:at[1]]))
	}
	return complaints
}

func notTooLong(file *source) []string {
	if n := file.lines(); n > maxLines && longFiles[file.path] == "" {
		return []string{file.complain(token.NoPos, "%d lines: split it by concept, or give internal/archtest the reason for more than %d", n, maxLines)}
	}
	return nil
}

// eachSelector calls visit for every x.Sel where x is a plain name.
func eachSelector(node ast.Node, visit func(selector *ast.SelectorExpr, qualifier string)) {
	ast.Inspect(node, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok {
			if qualifier, ok := selector.X.(*ast.Ident); ok {
				visit(selector, qualifier.Name)
			}
		}
		return true
	})
}
