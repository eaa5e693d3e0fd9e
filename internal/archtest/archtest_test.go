package archtest

import (
	"strings"
	"testing"
)

// A rule that catches nothing looks like a rule that nobody breaks. So each is shown its offence, and the nearest
// thing that is allowed.
func TestRulesCatchTheirOffences(t *testing.T) {
	const (
		zerolog    = `import "github.com/rs/zerolog"; `
		prometheus = `import prom "github.com/prometheus/client_golang/prometheus"; `
	)
	tests := []struct {
		name, path, code string
		want             string // part of the one complaint; empty: none
	}{
		{"relay must not know sessions", "internal/relay/x.go", `package relay; import _ "pgmtls-proxy/internal/session"`, "must not import internal/session: the hot path"},
		{"session may know the relay", "internal/session/x.go", `package session; import _ "pgmtls-proxy/internal/relay"`, ""},
		{"packages below a room are the room's", "internal/relay/loop/x.go", `package loop; import _ "pgmtls-proxy/internal/policy"`, "the hot path"},
		{"config imports nothing", "internal/config/x.go", `package config; import _ "pgmtls-proxy/internal/refusal"`, "control plane"},
		{"control plane stays out of the data plane", "internal/control/registry/x.go", `package registry; import _ "pgmtls-proxy/internal/tlsconf"`, "the two programs share files"},
		{"control plane reads config", "internal/control/registry/x.go", `package registry; import _ "pgmtls-proxy/internal/config"`, ""},
		{"the proxy stays out of the control plane", "cmd/pgmtls-proxy/main.go", `package main; import _ "pgmtls-proxy/internal/control/authority"`, "lives without the control plane"},
		{"every room stands on the ground", "internal/relay/x.go", `package relay; import _ "pgmtls-proxy/internal/safetext"`, ""},
		{"the ground stands on nothing", "internal/safetext/x.go", `package safetext; import _ "pgmtls-proxy/internal/refusal"`, "whosever they are"},
		{"a package without a row", "internal/helpers/x.go", `package helpers`, "no row in the import table"},
		{"an unknown command", "cmd/other/x.go", `package main; import _ "pgmtls-proxy/internal/config"`, "lists no command"},
		{"tests may use pgtest", "internal/relay/x_test.go", `package relay_test; import _ "pgmtls-proxy/internal/testkit/pgtest"; import _ "pgmtls-proxy/internal/relay"`, ""},
		{"tests keep the table too", "internal/relay/x_test.go", `package relay_test; import _ "pgmtls-proxy/internal/session"`, "the hot path"},
		{"the product never holds test certificates", "internal/session/x.go", `package session; import _ "pgmtls-proxy/internal/testkit/testpki"`, "never be in the product"},
		{"the product never makes registries of tests", "internal/control/apiserver/x.go", `package apiserver; import _ "pgmtls-proxy/internal/control/registry/registrytest"`, "never be in the product"},
		{"tests may use what makes registries", "internal/control/apiserver/x_test.go", `package apiserver; import _ "pgmtls-proxy/internal/control/registry/registrytest"`, ""},
		{"what is for tests may use testkit", "internal/control/registry/registrytest/x.go", `package registrytest; import _ "pgmtls-proxy/internal/testkit/must"`, ""},
		{"what is for tests keeps its place", "internal/control/docstore/docstoretest/x.go", `package docstoretest; import _ "pgmtls-proxy/internal/control/registry"`, "no line above docstore"},
		{"the demo may import anything", "demo/x.go", `package main; import _ "pgmtls-proxy/internal/testkit/testpki"`, ""},
		{"zerolog's global logger", "internal/session/x.go", `package session; import _ "github.com/rs/zerolog/log"`, "global logger"},
		{"the old math/rand", "internal/session/x.go", `package session; import _ "math/rand"`, "math/rand/v2"},
		{"the new math/rand", "internal/session/x.go", `package session; import _ "math/rand/v2"`, ""},

		{"a package logger", "internal/session/x.go", `package session; ` + zerolog + `var logger = zerolog.Nop()`, "a package variable holds zerolog.Nop"},
		{"a package logger by type", "internal/session/x.go", `package session; ` + zerolog + `var logger *zerolog.Logger`, "a package variable holds zerolog.Logger"},
		{"a logger in a function", "internal/session/x.go", `package session; ` + zerolog + `func f() { logger := zerolog.Nop(); _ = logger }`, ""},
		{"a package metric under another name", "internal/metrics/x.go", `package metrics; ` + prometheus + `var c prom.Counter`, "a package variable holds prom.Counter"},
		{"the default registry", "internal/metrics/x.go", `package metrics; ` + prometheus + `func f() { prom.MustRegister() }`, "uses a global"},
		{"an own registry", "internal/metrics/x.go", `package metrics; ` + prometheus + `func f(r *prom.Registry) { r.MustRegister() }`, ""},

		{"a sleep in a test", "internal/relay/x_test.go", `package relay; import "time"; func f() { time.Sleep(1) }`, "time.Sleep in a test"},
		{"a sleep under another name", "internal/relay/x_test.go", `package relay; import clock "time"; func f() { clock.Sleep(1) }`, "time.Sleep in a test"},
		{"a timer in a test", "internal/relay/x_test.go", `package relay; import "time"; func f() { <-time.After(1) }`, ""},

		{"an exit in a package", "internal/relay/x.go", `package relay; import "os"; func main() { os.Exit(1) }`, "os.Exit stands once"},
		{"an exit beside main", "cmd/pgmtls-proxy/x.go", `package main; import "os"; func run() { os.Exit(1) }`, "os.Exit stands once"},
		{"a second exit in main", "cmd/pgmtls-proxy/x.go", `package main; import "os"; func main() { os.Exit(1); os.Exit(2) }`, "os.Exit stands once"},
		{"the exit in main", "cmd/pgmtls-proxy/x.go", `package main; import "os"; func main() { os.Exit(1) }`, ""},
		{"an exit in disguise", "internal/relay/x.go", `package relay; import "log"; func f() { log.Fatalln() }`, "log.Fatalln ends the program"},

		{"a mark of unfinished work", "internal/relay/x.go", "package relay // TO" + "DO: finish", "finish it, or file an issue"},
		{"a long file", "internal/relay/x.go", "package relay" + strings.Repeat("\n", maxLines+1), "401 lines"},
		{"a file of the greatest length", "internal/relay/x.go", "package relay" + strings.Repeat("\n", maxLines), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := given(t, test.path, test.code)
			got := importComplaints([]*source{file})
			for _, rule := range rules {
				got = append(got, rule(file)...)
			}
			expect(t, got, test.want)
		})
	}
}

func TestUnusedPermissionsAreFound(t *testing.T) {
	file := given(t, "internal/relay/x.go", `package relay; import _ "pgmtls-proxy/internal/pgwire"`)
	row := func(may ...string) map[string]room { return map[string]room{"relay": {may: may}} }
	report(t, unusedPermissions([]*source{file}, row("pgwire")))
	expect(t, unusedPermissions([]*source{file}, row("pgwire", "sockopt")), "relay may import sockopt and does not")
}

func TestPackageCommentRuleCatchesItsOffences(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"none", map[string]string{"internal/relay/x.go": "package relay"}, "has no package comment"},
		{"of another form", map[string]string{"internal/relay/x.go": "// The relay.\npackage relay"}, "must start with"},
		{"two", map[string]string{
			"internal/relay/x.go": "// Package relay moves.\npackage relay",
			"internal/relay/y.go": "// Package relay moves.\npackage relay"}, "has 2 package comments"},
		{"one", map[string]string{
			"internal/relay/x.go":      "// Package relay moves.\npackage relay",
			"internal/relay/y.go":      "package relay",
			"internal/relay/x_test.go": "package relay_test"}, ""},
		{"a command's", map[string]string{"cmd/pgmtls-proxy/main.go": "// Pgmtls-proxy guards.\npackage main"}, ""},
		{"a command's other form", map[string]string{"cmd/pgmtls-proxy/main.go": "// Command pgmtls-proxy guards.\npackage main"}, ""},
		{"a command's of a package", map[string]string{"cmd/pgmtls-proxy/main.go": "// Package main guards.\npackage main"}, "must start with"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var files []*source
			for path, code := range test.files {
				files = append(files, given(t, path, code))
			}
			expect(t, packageCommentComplaints(files), test.want)
		})
	}
}

func given(t *testing.T, path, code string) *source {
	t.Helper()
	file, err := parse(path, []byte(code))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// expect wants no complaint, or one that has the text.
func expect(t *testing.T, complaints []string, want string) {
	t.Helper()
	if want == "" {
		report(t, complaints)
		return
	}
	if len(complaints) != 1 || !strings.Contains(complaints[0], want) {
		t.Errorf("got %q, want one complaint with %q", complaints, want)
	}
}
