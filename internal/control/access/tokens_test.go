package access

import (
	"bytes"
	"context"
	"errors"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTokenIsItsHolderUntilItIsRevokedOnAnyDaemon(t *testing.T) {
	site := newSite(t)
	one, other := site.open(t), site.open(t)
	token, presented := make1(t, one, NewToken{Name: "ci", Kind: Database, Database: "db-1", CreatedBy: "admin"})
	caller, err := other.Tokens.Check(t.Context(), presented)
	if want := (Caller{Kind: Database, ID: token.ID, Name: "ci", Database: "db-1"}); err != nil || caller != want {
		t.Fatalf("got %+v, %v, want %+v", caller, err, want)
	}
	if _, err := one.Tokens.Revoke(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	if caller, err := other.Tokens.Check(t.Context(), presented); !errors.Is(err, ErrUnknown) || caller != (Caller{}) {
		t.Errorf("after it was revoked: %+v, %v", caller, err)
	}
	_, err = one.Tokens.Revoke(t.Context(), token.ID)
	wantError(t, err, problem.NotFound)
	make1(t, one, NewToken{Name: "ci", Kind: Read}) // the name is free again
}

func TestWrongSecretsAndIdsAreRefusedAlike(t *testing.T) {
	a := newSite(t).open(t)
	_, presented := make1(t, a, NewToken{Name: "ci", Kind: All})
	_, foreign := make1(t, a, NewToken{Name: "other", Kind: Read})
	_, never, _ := newSecret()
	for name, text := range map[string]string{
		"nothing":              "",
		"no token":             "Bearer",
		"an unknown id":        never,
		"another's secret":     presented[:16] + foreign[16:],
		"one character off":    presented[:58] + map[bool]string{true: "A", false: "B"}[presented[58] != 'A'],
		"the secret alone":     presented[16:],
		"the id of the decoy":  "pgmtls_00000000_" + presented[16:],
		"a name of the store":  "pgmtls_/../tok/_" + presented[16:],
		"with a line feed":     presented + "\n",
		"in upper case":        strings.ToUpper(presented),
		"as two":               presented + presented,
		"with its hash behind": presented[:16] + strings.Repeat("A", 43),
	} {
		if caller, err := a.Tokens.Check(t.Context(), text); !errors.Is(err, ErrUnknown) || caller != (Caller{}) {
			t.Errorf("%s: got %+v, %v", name, caller, err)
		}
	}
}

func TestTokenEndsWhenItExpires(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	_, presented := make1(t, a, NewToken{Name: "brief", Kind: All, ExpiresAt: start.Add(time.Hour)})
	site.pass(time.Hour - time.Second)
	if caller, err := a.Tokens.Check(t.Context(), presented); err != nil || !caller.Until.Equal(start.Add(time.Hour)) {
		t.Errorf("a second before: %+v, %v", caller, err)
	}
	site.pass(time.Second)
	if _, err := a.Tokens.Check(t.Context(), presented); !errors.Is(err, ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	if _, err := a.Tokens.Check(t.Context(), presented[:58]+"-"); presented[58] != '-' && !errors.Is(err, ErrUnknown) {
		t.Errorf("who does not have the secret is told %v", err)
	}
	if n, err := a.Tokens.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("swept %d at once, %v", n, err)
	}
	site.pass(keepEnded + time.Second)
	if n, err := a.Tokens.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("swept %d after a week, %v", n, err)
	}
}

func TestNothingInTheStoreIsAToken(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	_, presented := make1(t, a, NewToken{Name: "ci", Kind: All})
	items, _, err := site.docs.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if bytes.Contains(item.Value, []byte(presented[16:])) || bytes.Contains(item.Value, []byte("PRIVATE KEY")) {
			t.Errorf("%s has a secret in clear", item.Key)
		}
	}
}

func TestBadTokensAreNotMade(t *testing.T) {
	a := newSite(t).open(t)
	for name, n := range map[string]NewToken{
		"no name":                {Kind: All},
		"a long name":            {Kind: All, Name: strings.Repeat("a", 65)},
		"a name like a path":     {Kind: All, Name: "a/b"},
		"an agent's name":        {Kind: All, Name: "agent:1"},
		"the daemon's name":      {Kind: All, Name: "system"},
		"a control character":    {Kind: All, Name: "a\x1b[31m"},
		"no scope":               {Name: "a"},
		"an unknown scope":       {Name: "a", Kind: "root"},
		"an agent's certificate": {Name: "a", Kind: Agent, Database: "d", Proxy: "p"},
		"database without one":   {Name: "a", Kind: Database},
		"all with a database":    {Name: "a", Kind: All, Database: "d"},
		"a proxy":                {Name: "a", Kind: Database, Database: "d", Proxy: "p"},
		"enrolment without":      {Name: "a", Kind: Enrolment, Database: "d"},
		"an end in the past":     {Name: "a", Kind: All, ExpiresAt: start},
	} {
		t.Run(name, func(t *testing.T) {
			_, presented, err := a.Tokens.Create(t.Context(), n)
			wantError(t, err, problem.InvalidParams)
			if presented != "" {
				t.Error("there is a token all the same")
			}
		})
	}
	make1(t, a, NewToken{Name: "a", Kind: All})
	_, _, err := a.Tokens.Create(t.Context(), NewToken{Name: "a", Kind: Read})
	wantError(t, err, problem.Conflict)
}

func TestLastUseIsWrittenOnceAnHour(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	token, presented := make1(t, a, NewToken{Name: "ci", Kind: All})
	check := func() int64 {
		t.Helper()
		if _, err := a.Tokens.Check(t.Context(), presented); err != nil {
			t.Fatal(err)
		}
		item, err := site.docs.Get(t.Context(), keyTokens+token.ID)
		if err != nil {
			t.Fatal(err)
		}
		return item.Revision
	}
	first := check()
	site.pass(59 * time.Minute)
	if check() != first {
		t.Error("it was written again within the hour")
	}
	site.pass(time.Minute)
	if check() == first {
		t.Error("it was not written after an hour")
	}
	tokens, err := a.Tokens.List(t.Context())
	if err != nil || len(tokens) != 1 || !tokens[0].LastUsed.Equal(start.Add(time.Hour)) {
		t.Errorf("got %+v, %v", tokens, err)
	}
}

func TestNotingTheUseDoesNotBringBackARevokedToken(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	make1(t, a, NewToken{Name: "keeper", Kind: All})
	token, _ := make1(t, a, NewToken{Name: "ci", Kind: All})
	item, err := site.docs.Get(t.Context(), keyTokens+token.ID)
	if err != nil {
		t.Fatal(err)
	}
	record, err := docstore.Decode[tokenRecord](item)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Tokens.Revoke(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	a.Tokens.used(t.Context(), item, record, start.Add(time.Hour))
	if tokens, err := a.Tokens.List(t.Context()); err != nil || len(tokens) != 1 {
		t.Errorf("got %+v, %v", tokens, err)
	}
}

func TestLastTokenOfAllStays(t *testing.T) {
	site := newSite(t)
	a, other := site.open(t), site.open(t)
	first, _ := make1(t, a, NewToken{Name: "one", Kind: All})
	make1(t, a, NewToken{Name: "brief", Kind: All, ExpiresAt: start.Add(time.Hour)})
	_, err := a.Tokens.Revoke(t.Context(), first.ID)
	wantError(t, err, problem.Conflict)
	for range 20 {
		second, _ := make1(t, a, NewToken{Name: "two", Kind: All})
		// Two administrators, each of whom revokes the other's.
		var racing sync.WaitGroup
		errs := make([]error, 2)
		racing.Go(func() { _, errs[0] = a.Tokens.Revoke(t.Context(), first.ID) })
		racing.Go(func() { _, errs[1] = other.Tokens.Revoke(t.Context(), second.ID) })
		racing.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("got %v and %v, want one refusal", errs[0], errs[1])
		}
		if errs[0] == nil {
			_, err = a.Tokens.Revoke(t.Context(), second.ID)
			first = second
		} else {
			_, err = a.Tokens.Revoke(t.Context(), first.ID)
		}
		wantError(t, err, problem.Conflict)
		if errs[0] == nil {
			// the next round makes its second under a free name
			third, _ := make1(t, a, NewToken{Name: "one", Kind: All})
			if _, err := a.Tokens.Revoke(t.Context(), first.ID); err != nil {
				t.Fatal(err)
			}
			first = third
		}
	}
}

func TestTokensOfADatabaseEndWithIt(t *testing.T) {
	a := newSite(t).open(t)
	make1(t, a, NewToken{Name: "admin", Kind: All})
	_, presented := make1(t, a, NewToken{Name: "one", Kind: Database, Database: "db-1"})
	make1(t, a, NewToken{Name: "two", Kind: Database, Database: "db-2"})
	if _, _, err := a.Agents.Invite(t.Context(), Place{Database: "db-1", Proxy: "p"}, "admin"); err != nil {
		t.Fatal(err)
	}
	ended, err := a.Tokens.RevokeFor(t.Context(), "db-1")
	if err != nil || len(ended) != 2 {
		t.Fatalf("ended %v, %v", ended, err)
	}
	if _, err := a.Tokens.Check(t.Context(), presented); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if ended, err := a.Tokens.RevokeFor(t.Context(), ""); err != nil || len(ended) != 0 {
		t.Errorf("no database ended %v, %v", ended, err)
	}
}

func TestOpenAnswersEndWithTheToken(t *testing.T) {
	site := newSite(t)
	a, other := site.open(t), site.open(t)
	make1(t, a, NewToken{Name: "admin", Kind: All})
	token, presented := make1(t, a, NewToken{Name: "ci", Kind: Read})
	caller, err := a.Tokens.Check(t.Context(), presented)
	if err != nil {
		t.Fatal(err)
	}
	held, stop := a.Hold(soon(t), caller)
	defer stop()
	// Another token's end is not this one's.
	more, _ := make1(t, a, NewToken{Name: "more", Kind: Read})
	if _, err := other.Tokens.Revoke(t.Context(), more.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Tokens.Check(t.Context(), presented); err != nil {
		t.Fatal(err)
	}
	if held.Err() != nil {
		t.Fatalf("it ended early: %v", context.Cause(held))
	}
	if _, err := other.Tokens.Revoke(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	<-held.Done()
	if err := context.Cause(held); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	late, stopLate := a.Hold(soon(t), caller)
	defer stopLate()
	<-late.Done()
	if err := context.Cause(late); !errors.Is(err, ErrUnknown) {
		t.Errorf("one that was revoked before: %v", err)
	}
}

func TestOpenAnswersEndWhenTheTokenExpires(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	_, presented := make1(t, a, NewToken{Name: "brief", Kind: All, ExpiresAt: start.Add(20 * time.Millisecond)})
	caller, err := a.Tokens.Check(t.Context(), presented)
	if err != nil {
		t.Fatal(err)
	}
	held, stop := a.Hold(soon(t), caller)
	defer stop()
	<-held.Done()
	if err := context.Cause(held); !errors.Is(err, ErrExpired) {
		t.Errorf("got %v", err)
	}
}
