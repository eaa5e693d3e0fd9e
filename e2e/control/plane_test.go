package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// plane is one daemon of the control plane, from its first start on; it may be killed and started again.
type plane struct {
	*process
	Dir    string   // its data directory
	args   []string // of serve
	client string   // path of the client.yaml of commands
}

// newPlane starts a daemon that needs no set-up.
func newPlane(t testing.TB) *plane {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	p := &plane{Dir: dir, args: []string{"--data-dir", dir, "--listen", "127.0.0.1:0"}, client: filepath.Join(dir, "client.yaml")}
	p.start(t)
	return p
}

// configured starts a daemon with a pgmtls.yaml, over what tests need: polling as fast as they do.
func configured(t testing.TB, settings map[string]any) *plane {
	t.Helper()
	dir := t.TempDir()
	p := &plane{Dir: filepath.Join(dir, "data"), args: []string{"--config", filepath.Join(dir, "pgmtls.yaml")}, client: filepath.Join(dir, "data", "client.yaml")}
	all := map[string]any{
		"data_dir": "data",
		"listen":   "127.0.0.1:0",
		"limits":   map[string]any{"requests_per_second": 10_000, "burst": 10_000},
	}
	maps.Copy(all, settings)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, p.args[1], string(text)+"\n")
	p.start(t)
	return p
}

// start starts the daemon, again or for the first time, and returns when it serves.
func (p *plane) start(t testing.TB) {
	t.Helper()
	p.process = launch(t, "the daemon", pgmtlsPath, append([]string{"serve"}, p.args...)...)
	p.waitFor(t, "serving")
}

// policyDir makes a directory that the daemon may deliver to.
func (p *plane) policyDir(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(p.Dir, "policies", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// url is where the daemon is now; it says so in client.yaml.
func (p *plane) url(t testing.TB) string {
	t.Helper()
	match := regexp.MustCompile(`(?m)^url: "(https://[^"]+)"$`).FindStringSubmatch(readFile(t, filepath.Join(p.Dir, "client.yaml")))
	if match == nil {
		t.Fatal("client.yaml has no url")
	}
	return match[1]
}

// outcome is how a command has ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// run runs a command of pgmtls to its end.
func (p *plane) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return p.runAs(t, nil, args...)
}

// runAs is run with more in the environment.
func (p *plane) runAs(t testing.TB, env []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	command := exec.CommandContext(ctx, pgmtlsPath, args...)
	command.Env = append(append(os.Environ(), raceOptions, "PGMTLS_CONFIG="+p.client, "HOME=/nonexistent"), env...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	if text := stderr.String(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "goroutine ") {
		t.Errorf("pgmtls %s: %s", strings.Join(args, " "), text)
	}
	return outcome{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// do runs a command that must succeed, and gives what it printed to standard output.
func (p *plane) do(t testing.TB, args ...string) string {
	t.Helper()
	result := p.run(t, args...)
	if result.code != 0 {
		t.Fatalf("pgmtls %s: exit code %d\n%s%s", strings.Join(args, " "), result.code, result.stdout, result.stderr)
	}
	return result.stdout
}

// read runs a command with --json, and decodes what it prints.
func (p *plane) read(t testing.TB, into any, args ...string) {
	t.Helper()
	text := p.do(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("pgmtls %s --json: %v\n%s", strings.Join(args, " "), err, text)
	}
}

// refuses runs a command that must end with exit code 1, and say the words.
func (p *plane) refuses(t testing.TB, words string, args ...string) {
	t.Helper()
	result := p.run(t, args...)
	if result.code != 1 || !strings.Contains(result.stderr, words) {
		t.Errorf("pgmtls %s: exit code %d, want 1 and %q\n%s%s", strings.Join(args, " "), result.code, words, result.stdout, result.stderr)
	}
}

// says wants parts in a text, in this order.
func says(t testing.TB, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("got\n%s\nwant %q in it, in this order", text, parts)
			return
		}
		rest = after
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shortDir is a directory whose path leaves room for the name of a unix socket (107 bytes, unix(7)).
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgmtls.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
