package cli_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
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
