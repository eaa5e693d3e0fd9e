package archtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// room is one package's row of the import table.
type room struct {
	may []string // internal packages that it may import
	why string   // said to whoever breaks the rule
}

// table holds which internal package may import which. Bytes flow listener -> session -> relay, rules flow
// config -> policy -> session, and nothing points back.
var table = map[string]room{
	"refusal":    {nil, "everything that can refuse imports it; what it imported would be everywhere"},
	"sockopt":    {nil, "it sets options of sockets, whatever they carry"},
	"proxyproto": {nil, "it reads a balancer's header; whom to believe is session's to know"},
	"pgwire":     {[]string{"refusal"}, "the protocol is known without knowing who may connect"},
	"allowlist":  {[]string{"refusal"}, "a set of networks and one question; it knows no file and no connection"},
	"tlsconf":    {[]string{"refusal"}, "certificates to TLS; where they came from is policy's to know"},
	"backend":    {[]string{"refusal", "pgwire", "sockopt"}, "it reaches PostgreSQL for whoever asks"},
	"config":     {nil, "text to values: the control plane uses it too, and must not get the data plane with it"},
	"policy":     {[]string{"config", "allowlist", "tlsconf", "backend", "refusal", "sockopt"}, "the snapshot does not know who reads it"},
	"relay":      {[]string{"pgwire", "sockopt"}, "the hot path moves bytes; who and why was decided before"},
	"session":    {[]string{"pgwire", "proxyproto", "policy", "tlsconf", "relay", "metrics", "refusal"}, "the script of one connection; it is started by the listener's owner and watched by admin"},
	"listener":   {[]string{"sockopt"}, "it accepts, limits and drains connections of any protocol"},
	"takeover":   {nil, "it hands sockets on, whatever is served on them"},
	"metrics":    {[]string{"refusal"}, "counts are told to it; it asks nobody"},
	"admin":      {[]string{"refusal", "policy", "session", "metrics"}, "it shows and asks, it does not decide"},

	// The control plane: the other program, which writes the files that the proxy reads.
	"seal":      {nil, "it encrypts bytes for whoever keeps them"},
	"durable":   {nil, "it writes files, whatever is in them"},
	"store":     {[]string{"durable"}, "it keeps bytes under keys; what they mean is space's to know"},
	"authority": {nil, "X.509 and nothing else: what is issued to whom, and until when, is space's to know"},
	"notify":    {nil, "it tells people; about what, it is told"},
	"delivery":  {[]string{"config"}, controlPlane},
	"space":     {[]string{"config", "allowlist", "authority", "seal", "store", "delivery"}, controlPlane},
	"dispatch":  {[]string{"config", "seal", "store", "delivery", "space"}, controlPlane},
	"access":    {[]string{"durable", "authority", "seal", "store", "space"}, controlPlane},
	"api":       {[]string{"delivery"}, "the words of the API are for its clients too, which must not get the daemon with them"},
	"apiserver": {[]string{"api", "config", "allowlist", "authority", "seal", "store", "delivery", "space", "access"}, controlPlane},
	"apiclient": {[]string{"api", "delivery"}, "a client knows the API and nothing behind it"},
	"agent":     {[]string{"durable", "config", "api", "apiclient", "delivery"}, "an agent knows the API and its proxy's directory"},
	"cli":       {[]string{"config", "authority", "api", "apiclient"}, "commands are clients of the API"},

	// For tests, benchmarks and the demo.
	"testpki":  {nil, "every package's tests may use it, so it must be below all of them"},
	"pgtest":   {nil, "every package's tests may use it, so it must be below all of them"},
	"etcdtest": {nil, "it starts etcd, whatever is kept in it"},
	"archtest": {nil, "it reads the others as text"},
}

const controlPlane = "the two programs share files, not code: of the data plane only config and allowlist may be used"

// forTests are packages that no product code may import, and every test may.
var forTests = []string{"testpki", "pgtest", "etcdtest"}

// commands are the programs, with what each puts together. Their tests are held to the same.
var commands = map[string]room{
	"cmd/pgmtls-proxy": {[]string{"refusal", "sockopt", "pgwire", "allowlist", "tlsconf", "backend", "config", "policy", "relay", "session", "listener", "takeover", "metrics", "admin"},
		"the proxy lives without the control plane"},
	"cmd/pgmtls": {[]string{"config", "allowlist", "authority", "durable", "seal", "store", "notify", "delivery", "dispatch", "space", "access", "api", "apiserver", "apiclient", "agent", "cli"}, controlPlane},
}

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
		if name, ok := internalName(file.dir()); ok {
			if _, known := table[name]; !known {
				complaints = append(complaints, file.complain(file.syntax.Package, "package %s has no row in the import table of internal/archtest", name))
			}
		}
	}
	return complaints
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
	name, ok := internalName(imported)
	if !ok {
		return "only internal packages are there to be imported"
	}
	if slices.Contains(forTests, name) {
		if file.test {
			return ""
		}
		return "it is for tests and the demo, and must never be in the product"
	}
	if importer, ok := internalName(dir); ok {
		// A package below a room belongs to the room.
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

// internalName reads "session" from internal/session and from what is below it.
func internalName(dir string) (string, bool) {
	name, ok := strings.CutPrefix(dir, "internal/")
	name, _, _ = strings.Cut(name, "/")
	return name, ok
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
