package archtest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// room is one package's row of the import table.
type room struct {
	may []string // internal packages that it may import, besides those of ground
	why string   // said to whoever breaks the rule
}

// table holds which internal package may import which. Bytes flow listener -> session -> relay, rules flow
// config -> policy -> session, and nothing points back. A package below a room belongs to the room.
var table = map[string]room{
	"refusal":    {nil, "everything that can refuse imports it; what it imported would be everywhere"},
	"sockopt":    {nil, "it sets options of sockets, whatever they carry"},
	"proxyproto": {nil, "it reads a balancer's header; whom to believe is session's to know"},
	"pgwire":     {[]string{"refusal"}, "the protocol is known without knowing who may connect"},
	"allowlist":  {nil, "a set of networks and one question; it knows no file and no connection"},
	"tlsconf":    {[]string{"pemkey", "refusal"}, "certificates to TLS; where they came from is policy's to know"},
	"backend":    {[]string{"pgwire", "sockopt"}, "it reaches PostgreSQL for whoever asks"},
	"config":     {nil, "text to values: the control plane uses it too, and must not get the data plane with it"},
	"policy":     {[]string{"config", "secretfile", "allowlist", "tlsconf", "backend", "refusal", "sockopt"}, "the snapshot does not know who reads it"},
	"relay":      {[]string{"pgwire"}, "the hot path moves bytes; who and why was decided before"},
	"session":    {[]string{"connlimit", "pgwire", "proxyproto", "policy", "tlsconf", "relay", "metrics", "refusal"}, "the script of one connection; it is started by the listener's owner and watched by admin"},
	"drain":      {[]string{"relay"}, "it decides what comes when; what is ended and how is its target's to know"},
	"listener":   {[]string{"sockopt"}, "it accepts, limits and drains connections of any protocol"},
	"takeover":   {[]string{"sockopt"}, "it hands sockets on, whatever is served on them"},
	"metrics":    {[]string{"refusal"}, "counts are told to it; it asks nobody"},
	"admin":      {[]string{"adminapi", "buildinfo", "connlimit", "refusal", "policy", "session", "metrics"}, "it shows and asks, it does not decide"},

	// The floor that both programs stand on.
	"connlimit":  {nil, "it bounds connections and their bytes, whatever they carry"},
	"adminapi":   {[]string{"buildinfo"}, "both ends of the admin address use it, and neither may get the other with it"},
	"atomicfile": {nil, "it writes files, whatever is in them"},
	"buildinfo":  {nil, "it reads what the linker recorded"},
	"pemkey":     {nil, "it reads keys; whose they are, and what they serve, is for its callers to know"},
	"secretfile": {nil, "it says who may read a file, whatever the secret is for"},
	"retry":      {nil, "it waits, whatever for"},
	"safetext":   {nil, "it makes texts fit to be shown, whosever they are"},
	"logqueue":   {nil, "it writes lines, whatever they say"},
	"sdnotify":   {nil, "it sends messages, whoever they are about"},

	// The other program, which writes the files that the proxy reads. Its own order is in controlLayers.
	"control": {[]string{"config", "adminapi", "atomicfile", "buildinfo", "pemkey", "secretfile"}, "the two programs share files, not code: of the data plane only config may be used"},

	// For tests, benchmarks and the demo.
	"testkit":  {nil, "every package's tests may use it, so it must be below all of them"},
	"archtest": {nil, "it reads the others as text"},
}

// controlLayers orders the packages of internal/control: a package may import those of the lines above its own.
var controlLayers = [][]string{
	{"seal", "store", "authority", "notify", "problem", "api"},
	{"docstore", "policyformat", "apiclient"},
	{"acme", "audit", "policysync", "proxyquery"},
	{"access", "outbox"},
	{"registry"},
	{"informer"},
	{"leader", "dispatch", "apiserver", "agent", "cli"},
}

// forTests reports whether a package is one that every test may import and no product code: internal/testkit and all below it,
// and what stands below a package under its name and "test", as httptest does in net/http.
func forTests(dir string) bool {
	name, ok := roomOf(dir)
	return ok && (name == "testkit" || name != "archtest" && strings.HasSuffix(dir, "test"))
}

// commands are the programs, with the rooms that each puts together. Their tests are held to the same.
var commands = map[string]room{
	"cmd/pgmtls-proxy": {[]string{"refusal", "sockopt", "tlsconf", "backend", "config", "policy", "relay", "session", "drain", "listener", "takeover", "metrics", "admin", "adminapi", "buildinfo", "logqueue", "sdnotify"},
		"the proxy lives without the control plane"},
	"cmd/pgmtls": {[]string{"config", "atomicfile", "connlimit", "buildinfo", "secretfile", "control", "logqueue", "sdnotify"}, "the control plane links nothing of the data plane"},
}

// sharedFloor are the packages that both programs link.
var sharedFloor = []string{"adminapi", "buildinfo", "config", "connlimit", "logqueue", "pemkey", "retry", "safetext", "sdnotify", "secretfile"}

// ground are the rooms that every room and command may import. They import nothing of ours.
var ground = []string{"retry", "safetext"}

// free are directories, with all below them, that may import anything: the demo plays operator, client and
// database, the benchmarks measure all of it, and the tests of deploy and docs read their files as the programs would.
var free = []string{"demo", "bench", "deploy", "docs"}

// forbidden are packages of others that no file may import, with the reason. A final slash stands for all below.
var forbidden = map[string]string{
	"github.com/rs/zerolog/log":                               "it is a global logger: pass a zerolog.Logger in",
	"github.com/prometheus/client_golang/prometheus/promauto": "it registers while it makes: metrics belong to the registry that is passed in",
	"github.com/jackc/pgproto3/":                              "it is the edition of pgx v4, which rejects protocol 3.2: use pgx/v5/pgproto3",
	"github.com/stretchr/testify/":                            "tests here are plain Go",
	"gopkg.in/":                                               "YAML is read by goccy/go-yaml, which is strict and knows positions",
	"io/ioutil":                                               "it is deprecated",
	"math/rand":                                               "its source is global: use math/rand/v2, and crypto/rand for secrets",
}

func TestImportsFollowTheTable(t *testing.T) {
	report(t, importComplaints(tree(t)))
}

// importComplaints holds files against the table.
func importComplaints(sources []*source) []string {
	var complaints []string
	for _, file := range sources {
		for _, spec := range file.syntax.Imports {
			imported := importPath(spec)
			if why, ok := forbiddenImport(imported); ok {
				complaints = append(complaints, file.complain(spec.Pos(), "must not import %s: %s", imported, why))
			}
			inner, ok := strings.CutPrefix(imported, module+"/")
			if !ok {
				continue
			}
			if why := refused(file, inner); why != "" {
				complaints = append(complaints, file.complain(spec.Pos(), "must not import %s: %s", inner, why))
			}
		}
		if name, ok := roomOf(file.dir()); ok {
			if _, known := table[name]; !known {
				complaints = append(complaints, file.complain(file.syntax.Package, "package %s has no row in the import table of internal/archtest", name))
			}
		}
		if name, ok := controlName(file.dir()); ok && layerOf(name) < 0 {
			complaints = append(complaints, file.complain(file.syntax.Package, "package %s has no place in controlLayers of internal/archtest", name))
		}
	}
	return complaints
}

// A permission that nobody uses is a door that stands open: the next import through it is seen by no one.
func TestEveryAllowedImportIsUsed(t *testing.T) {
	report(t, unusedPermissions(tree(t), table, commands))
}

func unusedPermissions(sources []*source, tables ...map[string]room) []string {
	used := map[string]bool{} // "importer imported"
	for _, file := range sources {
		for _, spec := range file.syntax.Imports {
			inner, _ := strings.CutPrefix(importPath(spec), module+"/")
			if imported, ok := roomOf(inner); ok {
				used[owner(file.dir())+" "+imported] = true
			}
		}
	}
	var complaints []string
	for _, rows := range tables {
		for name, row := range rows {
			for _, may := range row.may {
				if !used[name+" "+may] {
					complaints = append(complaints, "internal/archtest: "+name+" may import "+may+" and does not: take the permission away")
				}
			}
		}
	}
	slices.Sort(complaints)
	return complaints
}

// owner is the key of the row that a directory is held to: a room's name, or a command's path.
func owner(dir string) string {
	if name, ok := roomOf(dir); ok {
		return name
	}
	for command := range commands {
		if within(dir, command) {
			return command
		}
	}
	return dir
}

// What both programs link is decided, not grown: a package that comes into the second program through a third one
// shows here.
func TestBothProgramsLinkOnlyTheSharedFloor(t *testing.T) {
	proxy, control := linked(t, "./cmd/pgmtls-proxy"), linked(t, "./cmd/pgmtls")
	var shared []string
	for _, name := range proxy {
		if slices.Contains(control, name) {
			shared = append(shared, name)
		}
	}
	if !slices.Equal(shared, sharedFloor) {
		t.Errorf("both programs link %q, want the shared floor %q", shared, sharedFloor)
	}
	for _, name := range proxy {
		if within(name, "control") || within(name, "testkit") {
			t.Errorf("the proxy links internal/%s", name)
		}
	}
}

// linked lists the packages of internal that a command consists of, sorted.
func linked(t *testing.T, command string) []string {
	t.Helper()
	list := exec.Command("go", "list", "-deps", command)
	list.Dir = root
	output, err := list.Output()
	if err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	var names []string
	for line := range strings.Lines(string(output)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), module+"/internal/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func forbiddenImport(imported string) (why string, ok bool) {
	for pattern, why := range forbidden {
		if imported == pattern || strings.HasSuffix(pattern, "/") && strings.HasPrefix(imported, pattern) {
			return why, true
		}
	}
	return "", false
}

// refused gives the reason for which a file may not import a package of the module, empty when it may.
func refused(file *source, imported string) string {
	dir := file.dir()
	if imported == dir || slices.ContainsFunc(free, func(parent string) bool { return within(dir, parent) }) {
		return "" // a test of the package from outside, or a free directory
	}
	name, ok := roomOf(imported)
	if !ok {
		return "only internal packages are there to be imported"
	}
	if slices.Contains(ground, name) {
		return ""
	}
	if forTests(imported) {
		if file.test || forTests(dir) {
			return ""
		}
		return "it is for tests and the demo, and must never be in the product"
	}
	if importer, ok := roomOf(dir); ok {
		if importer == "control" && name == "control" {
			return refusedInControl(dir, imported)
		}
		if importer == name || slices.Contains(table[importer].may, name) {
			return ""
		}
		return table[importer].why
	}
	for command, room := range commands {
		if within(dir, command) {
			if slices.Contains(room.may, name) {
				return ""
			}
			return room.why
		}
	}
	return "internal/archtest lists no command in this directory"
}

// refusedInControl gives the reason for which one package of the control plane may not import another.
func refusedInControl(dir, imported string) string {
	importer, _ := controlName(dir)
	name, _ := controlName(imported)
	if importer == name || layerOf(name) >= 0 && layerOf(name) < layerOf(importer) {
		return ""
	}
	return "it stands in no line above " + importer + " in controlLayers of internal/archtest"
}

// roomOf reads "session" from internal/session and from what is below it.
func roomOf(dir string) (string, bool) {
	name, ok := strings.CutPrefix(dir, "internal/")
	name, _, _ = strings.Cut(name, "/")
	return name, ok
}

// controlName reads "store" from internal/control/store and from what is below it.
func controlName(dir string) (string, bool) {
	name, ok := strings.CutPrefix(dir, "internal/control/")
	name, _, _ = strings.Cut(name, "/")
	return name, ok
}

// layerOf is the line of controlLayers that names a package, -1 for none.
func layerOf(name string) int {
	return slices.IndexFunc(controlLayers, func(line []string) bool { return slices.Contains(line, name) })
}

func within(dir, parent string) bool {
	return dir == parent || strings.HasPrefix(dir, parent+"/")
}

// Who adds a dependency says in the README why.
func TestEveryDependencyHasItsReasonInTheREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("there is no README.md yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range dependencies(tree(t)) {
		if !strings.Contains(string(readme), strings.TrimPrefix(name, "github.com/")) {
			t.Errorf("README.md's table of dependencies does not name %s", name)
		}
	}
}

// dependencies lists the modules of others that product code imports, as owner/name paths without versions.
func dependencies(sources []*source) []string {
	var names []string
	for _, file := range sources {
		if file.test {
			continue
		}
		for _, spec := range file.syntax.Imports {
			parts := strings.Split(importPath(spec), "/")
			if !strings.Contains(parts[0], ".") {
				continue // the standard library's, or this module's
			}
			names = append(names, strings.Join(parts[:min(3, len(parts))], "/"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
