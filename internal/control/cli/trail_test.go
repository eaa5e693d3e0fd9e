package cli_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

func TestEventsArePrintedUntilInterrupted(t *testing.T) {
	stream := ": hello\n\ndata: {\"id\":\"1\",\"at\":\"2026-11-22T04:00:00Z\",\"actor\":\"admin\",\"action\":\"ip_rule.create\",\"database\":\"shop\",\"object\":\"x\"}\n\n"
	for form, want := range map[string]string{
		"":       "2026-11-22T04:00:00Z  ip_rule.create  shop  x  by admin\n",
		"--json": `{"id":"1","at":"2026-11-22T04:00:00Z","actor":"admin","action":"ip_rule.create","database":"shop","object":"x"}` + "\n",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWorld(t, map[string][]canned{"GET /v1/events?database=shop": {{http.StatusOK, stream}}})
		args := []string{"events", "--database", "shop"}
		if form != "" {
			args = append(args, form)
		}
		got := w.runUntil(ctx, cancel, args)
		if got.code != 0 || got.stdout != want || got.stderr != "" {
			t.Errorf("%q: %+v", form, got)
		}
	}
}

func TestBrokenSnapshotLeavesNothingBehind(t *testing.T) {
	w := newWorld(t, map[string][]canned{"GET /v1/snapshot": {{http.StatusOK, ""}}})
	got := w.run("snapshot", "save", w.dir+"/control.db")
	if got.code != 1 || !strings.Contains(got.stderr, "empty snapshot") {
		t.Errorf("%+v", got)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.Contains(entry.Name(), "snapshot") || entry.Name() == "control.db" {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

// full is standard output on a disk that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A token is shown once: a script that writes it to a full disk must not take the empty file for it.
func TestResultThatCantBeWrittenIsAFailure(t *testing.T) {
	w := newWorld(t, map[string][]canned{
		"POST /v1/tokens":  {{201, api.Token{ID: "3a1b2c3d", Name: "grafana", Scope: api.ScopeRead, CreatedAt: start, Secret: "pgmtls_3a1b2c3d_S"}}},
		"GET /v1/tokens":   {ok([]api.Token{{ID: "0a1b", Name: "admin", Scope: api.ScopeAll, CreatedAt: start}})},
		"GET /v1/version":  {ok(api.Version{Version: "v1.2.3"})},
		"GET /v1/snapshot": {{http.StatusOK, "content"}},
	})
	for _, args := range [][]string{
		{"tokens", "create", "grafana", "--scope", "read"},
		{"tokens", "create", "grafana", "--scope", "read", "--json"},
		{"tokens"},
		{"tokens", "--json"},
		{"version"},
		{"snapshot", "save", w.dir + "/control.db"},
	} {
		got := w.capture(t.Context(), args, func(*bytes.Buffer) io.Writer { return full{} })
		if got.code != 1 || !strings.Contains(got.stderr, "write the result: no space left on device") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if text, err := os.ReadFile(w.dir + "/control.db"); string(text) != "content" {
		t.Errorf("the snapshot has %q, %v", text, err)
	}
}

// Whoever looks for a command finds it, with a word about each.
func TestEveryCommandSaysWhatItDoes(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Runnable() && cmd.ValidArgsFunction == nil && cmd.Args == nil {
			t.Errorf("%s takes anything", cmd.CommandPath())
		}
		for _, below := range cmd.Commands() {
			check(below)
		}
	}
	for _, cmd := range newWorld(t, nil).root(nil, nil).Commands() {
		check(cmd)
	}
}
