package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// full is standard output on a disk that takes nothing.
type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }

// A script must not take an output that was lost for an answer.
func TestResultThatCantBeWrittenIsAFailure(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ok": true}`) }))
	defer proxy.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := file("proxy.yaml", fmt.Sprintf("listen: [127.0.0.1:5432]\nbackend: {address: 'unix:/nowhere'}\npolicy_dir: %s\nadmin: %s\n", dir, proxy.Listener.Addr()))
	policy := file("policy-new.yaml", "{}\n")
	for _, args := range [][]string{
		{"version"},
		{"health", "-c", config},
		{"explain", "-c", config, "--addr", "192.0.2.1"},
		{"explain", "-c", config, "--addr", "192.0.2.1", "--json"},
		{"dry-run", "-c", config, policy},
		{"dry-run", "-c", config, policy, "--json"},
	} {
		var stdout, stderr strings.Builder
		env := environment{args: args, getenv: func(string) string { return "" }, stdout: &stdout, stderr: &stderr}
		if code := run(t.Context(), env); code != exitOK || stdout.Len() == 0 {
			t.Errorf("%q ended with %d and printed %q: %s", args, code, &stdout, &stderr)
		}
		stderr.Reset()
		env.stdout = full{}
		if code := run(t.Context(), env); code != exitFailure || !strings.Contains(stderr.String(), errFull.Error()) {
			t.Errorf("%q ended with %d without a place for its output: %s", args, code, &stderr)
		}
	}
}
