package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/testkit/etcdtest"
	"pgmtls-proxy/internal/testkit/syncbuf"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// open opens a store, and closes it after the test.
func open(t testing.TB, options Options) *Store {
	t.Helper()
	s, err := Open(within(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, s) })
	return s
}

func closed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// fresh is a store with nothing in it. What it logs is an error of the test.
func fresh(t testing.TB) *Store {
	t.Helper()
	return open(t, Options{DataDir: directory(t), Log: quiet(t)})
}

// directory is a data directory that does not exist yet.
func directory(t testing.TB) string { return filepath.Join(t.TempDir(), "data") }

// quiet is a logger that nothing may be logged to, but that the machine is slow.
func quiet(t testing.TB) zerolog.Logger {
	var j syncbuf.Buffer
	t.Cleanup(func() {
		if text := withoutHaste(j.String()); text != "" {
			t.Errorf("logged:\n%s", text)
		}
	})
	return zerolog.New(&j)
}

// withoutHaste leaves out what etcd says when a disk or a processor has kept it waiting.
func withoutHaste(text string) string {
	var rest strings.Builder
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc([]string{"took too long", "slow fdatasync", "on time", "cannot campaign"}, func(haste string) bool {
			return strings.Contains(line, haste)
		}) {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

// within is a context for everything that a test does.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func commit(t testing.TB, s *Store, tx *Tx) int64 {
	t.Helper()
	revision, err := s.Commit(within(t), tx)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func put(t testing.TB, s *Store, key, value string) int64 {
	t.Helper()
	return commit(t, s, new(Tx).Put(key, []byte(value)))
}

// content is what a store has under a prefix, as key=value.
func content(t testing.TB, s *Store, prefix string) []string {
	t.Helper()
	items, _, err := s.List(within(t), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return texts(items)
}

func texts(items []Item) []string {
	var all []string
	for _, item := range items {
		all = append(all, item.Key+"="+string(item.Value))
	}
	return all
}

func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func says(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestMain lets the tests start this binary again as a process of its own.
func TestMain(m *testing.M) {
	if etcdtest.IsMember() {
		return
	}
	if dir := os.Getenv(writerVariable); dir != "" {
		write(dir)
		return
	}
	if dir := os.Getenv(openerVariable); dir != "" {
		tryToOpen(dir)
		return
	}
	m.Run()
}
