package access

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/problem"
)

// site is a store with its master key and a clock that tests move.
type site struct {
	docs *docstore.Docs
	at   atomic.Pointer[time.Time]
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newSite(t *testing.T) *site {
	t.Helper()
	site := &site{docs: docstoretest.Open(t)}
	site.at.Store(&start)
	return site
}

func (s *site) now() time.Time { return *s.at.Load() }

func (s *site) pass(d time.Duration) {
	at := s.now().Add(d)
	s.at.Store(&at)
}

func (s *site) options() Options {
	return Options{Docs: s.docs, Now: s.now, Names: []string{"control.example.com"}}
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
	if refusal, ok := errors.AsType[*problem.Error](err); !ok || refusal.ID != id {
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
