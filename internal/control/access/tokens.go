package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// Keys of the store.
const (
	keyTokens     = "tokens/"       // <id>: tokenRecord
	keyTokenNames = "token-names/"  // <name>: id of the token; keeps names apart, since the audit trail has them
	keyBootstrap  = "control/begun" // the first token was made
	keyControl    = "control/ca"    // controlRecord
	keyAgents     = "agents/"       // <id>: agentRecord
	keyAgentOf    = "agent-of/"     // <database>/<proxy>: id of its agent, so that there is one
)

// Token is an API token, without what makes it one.
type Token struct {
	ID        string    `json:"id"` // 8 hex digits
	Name      string    `json:"name"`
	Kind      Kind      `json:"scope"`
	Database  string    `json:"database,omitempty"` // id; with Database and Enrolment
	Proxy     string    `json:"proxy,omitempty"`    // with Enrolment
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`   // zero: never
	LastUsed  time.Time `json:"last_used_at,omitzero"` // to the hour; zero: never
}

// tokenRecord is what is stored.
type tokenRecord struct {
	Token
	Digest []byte `json:"digest"` // SHA-256 of the secret
}

// NewToken is a token to be made.
type NewToken struct {
	Name      string // 1 to 64 letters, digits and . _ - @, unique; it stands in the audit trail
	Kind      Kind
	Database  string    // id, with Database and Enrolment
	Proxy     string    // with Enrolment
	ExpiresAt time.Time // zero: never; an enrolment always ends
	CreatedBy string
}

// Tokens are the API's tokens, in the store. Its methods may be called from any goroutine.
type Tokens struct {
	docs *docstore.Docs
	now  func() time.Time
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

func (n NewToken) check(now time.Time) error {
	switch {
	case !tokenName.MatchString(n.Name): // the prefix "agent:" of agents can't be had
		return problem.New(problem.InvalidParams, "a token needs a name of 1 to 64 letters, digits, dots, dashes, underscores and @, starting with a letter or digit")
	case n.Name == audit.System.Name:
		return problem.New(problem.InvalidParams, "the name %s is reserved for the daemon; choose another", n.Name)
	case n.Kind != All && n.Kind != Read && n.Kind != Database && n.Kind != Enrolment:
		return problem.New(problem.InvalidParams, "the scope of a token must be all, read or database")
	case (n.Kind == Database || n.Kind == Enrolment) != (n.Database != ""):
		return problem.New(problem.InvalidParams, "database must be set for the scope database, and only for it")
	case (n.Kind == Enrolment) != (n.Proxy != ""):
		return problem.New(problem.InvalidParams, "proxy must be set for an agent's enrolment token, and only for it")
	case !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(now):
		return problem.New(problem.InvalidParams, "expires_at is in the past; omit it for a token that does not expire")
	}
	return nil
}

// Create creates a token. The presented text that it returns is stored nowhere. Refusals are [*problem.Error].
func (t *Tokens) Create(ctx context.Context, n NewToken) (token Token, presented string, err error) {
	if err := n.check(t.now()); err != nil {
		return Token{}, "", err
	}
	id, presented, digest := newSecret()
	record := tokenRecord{Digest: digest, Token: Token{ID: id, Name: n.Name, Kind: n.Kind, Database: n.Database, Proxy: n.Proxy,
		CreatedAt: t.now().Truncate(time.Second), CreatedBy: n.CreatedBy, ExpiresAt: n.ExpiresAt}}
	tx := new(store.Tx)
	tx.If(keyTokens+id, 0)
	tx.If(keyTokenNames+n.Name, 0)
	tx.Put(keyTokenNames+n.Name, []byte(id))
	if err := docstore.Put(tx, keyTokens+id, record); err != nil {
		return Token{}, "", err
	}
	_, err = t.docs.Commit(ctx, tx)
	if errors.Is(err, store.ErrConflict) {
		// That a random id of 32 bits exists already is as likely as it sounds, and asking again then helps too.
		return Token{}, "", problem.New(problem.Conflict, "a token named %s already exists; choose another name, or revoke that token", n.Name)
	}
	if err != nil {
		return Token{}, "", fmt.Errorf("create token: %w", err)
	}
	return record.Token, presented, nil
}

// List returns all tokens, expired ones included, the oldest first.
func (t *Tokens) List(ctx context.Context) ([]Token, error) {
	items, _, err := t.docs.List(ctx, keyTokens)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	tokens := make([]Token, 0, len(items))
	for _, item := range items {
		record, err := docstore.Decode[tokenRecord](item)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, record.Token)
	}
	slices.SortFunc(tokens, func(a, b Token) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return tokens, nil
}

// Revoke ends a token: the next request with it is refused, by every daemon. The last token of scope all that does
// not end stays, since nobody could make another one.
func (t *Tokens) Revoke(ctx context.Context, id string) (Token, error) {
	return t.remove(ctx, id, true)
}

// remove deletes a token. With keepLast, the last one that lets somebody manage tokens is refused: the transaction
// then depends on another one being there.
func (t *Tokens) remove(ctx context.Context, id string, keepLast bool) (Token, error) {
	for ctx.Err() == nil {
		items, _, err := t.docs.List(ctx, keyTokens)
		if err != nil {
			return Token{}, fmt.Errorf("revoke token: %w", err)
		}
		var found *tokenRecord
		var foundRevision, otherRevision int64
		var other string
		for _, item := range items {
			record, err := docstore.Decode[tokenRecord](item)
			if err != nil {
				return Token{}, err
			}
			switch {
			case record.ID == id:
				found, foundRevision = &record, item.Revision
			case record.permanent():
				other, otherRevision = item.Key, item.Revision
			}
		}
		if found == nil {
			return Token{}, problem.New(problem.NotFound, "there is no such token")
		}
		tx := new(store.Tx)
		tx.If(keyTokens+id, foundRevision)
		if keepLast && found.permanent() {
			if other == "" {
				return Token{}, problem.New(problem.Conflict, "this is the last token of scope all that does not expire; create another one first")
			}
			tx.If(other, otherRevision)
		}
		tx.Delete(keyTokens + id)
		tx.Delete(keyTokenNames + found.Name)
		if _, err = t.docs.Commit(ctx, tx); err == nil {
			return found.Token, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return Token{}, fmt.Errorf("revoke token: %w", err)
		}
	}
	return Token{}, ctx.Err()
}

// permanent reports whether the token can always make others.
func (t Token) permanent() bool { return t.Kind == All && t.ExpiresAt.IsZero() }

// RevokeFor revokes every token of a database that is deleted, and returns the revoked tokens.
func (t *Tokens) RevokeFor(ctx context.Context, database string) ([]Token, error) {
	return t.sweep(ctx, func(token Token) bool { return token.Database != "" && token.Database == database })
}

// keepEnded is how long a token stays in the list after its end, so that somebody can see why it does not work.
const keepEnded = 7 * 24 * time.Hour

// Sweep forgets tokens that ended a week ago. The leader calls it now and then.
func (t *Tokens) Sweep(ctx context.Context) (forgotten int, err error) {
	old := t.now().Add(-keepEnded)
	tokens, err := t.sweep(ctx, func(token Token) bool { return !token.ExpiresAt.IsZero() && token.ExpiresAt.Before(old) })
	return len(tokens), err
}

func (t *Tokens) sweep(ctx context.Context, ends func(Token) bool) ([]Token, error) {
	tokens, err := t.List(ctx)
	if err != nil {
		return nil, err
	}
	var ended []Token
	for _, token := range tokens {
		if !ends(token) {
			continue
		}
		if _, err := t.remove(ctx, token.ID, false); err != nil && !problem.Is(err, problem.NotFound) {
			return ended, err
		}
		ended = append(ended, token)
	}
	return ended, nil
}
