package access

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
)

// site is a store with its master key and a clock that tests move.
type site struct {
	store *store.Store
	ring  *seal.Ring
	at    atomic.Pointer[time.Time]
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newSite(t *testing.T) *site {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DataDir: t.TempDir() + "/etcd"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ring, err := seal.ParseRing(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	site := &site{store: s, ring: ring}
	site.at.Store(&start)
	return site
}

func (s *site) now() time.Time { return *s.at.Load() }

func (s *site) pass(d time.Duration) {
	at := s.now().Add(d)
	s.at.Store(&at)
}

func (s *site) options() Options {
	return Options{Store: s.store, Ring: s.ring, Now: s.now, Names: []string{"control.example.com"}}
}

// open is what each daemon does.
func (s *site) open(t *testing.T) *Access {
	t.Helper()
	a, err := Open(t.Context(), s.options())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func make1(t *testing.T, a *Access, n NewToken) (Token, string) {
	t.Helper()
	token, presented, err := a.Tokens.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return token, presented
}

func wantError(t *testing.T, err error, id string) {
	t.Helper()
	if refusal, ok := errors.AsType[*registry.Error](err); !ok || refusal.ID != id {
		t.Errorf("got %v, want a refusal with the id %s", err, id)
	}
}

// soon is how long a test waits for what is done at once.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
