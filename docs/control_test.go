package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

// sources parses the product's files of some packages.
func sources(t *testing.T, packages ...string) []*ast.File {
	t.Helper()
	var files []*ast.File
	for _, name := range packages {
		paths, err := filepath.Glob("../internal/control/" + name + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("no files of %s: %v", name, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	return files
}

// An action is a text with one of these beginnings, wherever it stands but in a constant: those are kinds of notices.
var actionPattern = regexp.MustCompile(`^(acme|agent|ca|certificate|crl|database|enhanced_certificate|ip_rule|mtls|notice|policy|proxy|server_certificate|snapshot|store|token)\.[a-z_]+$`)

func TestEveryActionOfTheAuditTrailIsExplained(t *testing.T) {
	var real []string
	for _, file := range sources(t, "registry", "outbox", "access", "apiserver") {
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.GenDecl:
				return node.Tok != token.CONST
			case *ast.BasicLit:
				if node.Kind == token.STRING {
					if text := unquote(t, node); actionPattern.MatchString(text) {
						real = append(real, text)
					}
				}
			}
			return true
		})
	}
	if len(real) < 30 {
		t.Fatalf("found only %q: are actions written in another way now?", real)
	}
	same(t, "control-plane.md", first(rows(t, "control-plane.md", "audit actions", "end of audit actions")), real)
}

// The table of scopes is asked for, cell by cell, what it says.
func TestTableOfScopesIsWhatIsDecided(t *testing.T) {
	kinds := []access.Kind{access.All, access.Read, access.Database, access.Enrolment, access.Agent}
	var documented []string
	for _, cells := range rows(t, "control-plane.md", "scopes", "end of scopes") {
		action := access.Action(cells[0])
		documented = append(documented, cells[0])
		if len(cells) != len(kinds)+1 {
			t.Fatalf("the row of %s has %d cells", action, len(cells))
		}
		for i, kind := range kinds {
			caller := access.Caller{Kind: kind, Database: "mine"}
			own, others := caller.May(action, "mine") == nil, caller.May(action, "another's") == nil
			word := map[[2]bool]string{{true, true}: "yes", {true, false}: "its own", {false, false}: "-"}[[2]bool{own, others}]
			// What a caller of one database gets of a list is apiserver's.
			if action == access.ListDatabases && kind == access.Database {
				word = "its own"
			}
			if cells[i+1] != word {
				t.Errorf("%s, %s: the table says %q, and it is %q", action, kind, cells[i+1], word)
			}
		}
	}
	var real []string
	for _, file := range sources(t, "access") {
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Action" {
				real = append(real, unquote(t, spec.Values[0].(*ast.BasicLit)))
			}
			return true
		})
	}
	same(t, "control-plane.md", documented, real)
}

// The names of the daemon's series stand in one file, those of the state without their beginning.
func TestEverySeriesOfTheControlPlaneIsExplained(t *testing.T) {
	var real []string
	text := read(t, "../internal/control/apiserver/metrics.go")
	for _, match := range regexp.MustCompile(`Name: "(pgmtls_\w+)"`).FindAllStringSubmatch(text, -1) {
		real = append(real, match[1])
	}
	for _, match := range regexp.MustCompile(`describe\("(\w+)"`).FindAllStringSubmatch(text, -1) {
		real = append(real, "pgmtls_control_"+match[1])
	}
	if len(real) < 10 {
		t.Fatalf("found only %q: are series made in another way now?", real)
	}
	same(t, "control-plane.md", first(rows(t, "control-plane.md", "control series", "end of control series")), real)
}

// Who comes from Heroku looks for these words.
func TestStatesAreThoseOfTheAPI(t *testing.T) {
	text := read(t, "control-plane.md")
	for _, state := range []string{api.Provisioning, api.Operational, api.Deprovisioning, api.Authorizing, api.Authorized,
		api.Deauthorizing, api.Pending, api.Ready, api.Disabling, api.Disabled} {
		if !strings.Contains(text, "`"+state+"`") {
			t.Errorf("control-plane.md does not explain %s", state)
		}
	}
}

// Of the commands that are shown, those that are typed have to be there.
func TestCommandsOfTheDocumentExist(t *testing.T) {
	known := map[string][]string{}
	for _, file := range sources(t, "cli") {
		ast.Inspect(file, func(node ast.Node) bool {
			pair, ok := node.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			key, isName := pair.Key.(*ast.Ident)
			literal, isText := pair.Value.(*ast.BasicLit)
			if isName && isText && key.Name == "Use" {
				name, _, _ := strings.Cut(unquote(t, literal), " ")
				known["all"] = append(known["all"], name)
			}
			return true
		})
	}
	words := append(known["all"], "serve", "agent", "restore") // cmd/pgmtls's own
	if len(words) < 25 {
		t.Fatalf("found only %q: are commands made in another way now?", words)
	}
	shown := regexp.MustCompile("pgmtls ([a-z-]+)(?: ([a-z-]+))?").FindAllStringSubmatch(commandsOf(read(t, "control-plane.md")), -1)
	if len(shown) < 20 {
		t.Fatalf("the document shows only %d commands", len(shown))
	}
	for _, match := range shown {
		if !slices.Contains(words, match[1]) {
			t.Errorf("control-plane.md shows pgmtls %s, which is no command", match[1])
		}
		groups := []string{"databases", "proxies", "mtls", "ip-rules", "certificates", "ca", "tokens", "agents", "snapshot"}
		if match[2] != "" && slices.Contains(groups, match[1]) && !slices.Contains(words, match[2]) {
			t.Errorf("control-plane.md shows pgmtls %s %s, which is no command", match[1], match[2])
		}
	}
}

// commandsOf is the text that a document sets as code.
func commandsOf(document string) string {
	var code strings.Builder
	for _, match := range regexp.MustCompile("(?s)```sh\n(.*?)```|`(pgmtls [^`]+)`").FindAllStringSubmatch(document, -1) {
		code.WriteString(match[1] + match[2] + "\n")
	}
	return code.String()
}
