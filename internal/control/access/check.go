package access

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Errors of those who are nobody.
var (
	ErrUnknown = errors.New("the token or certificate is unknown or was revoked")
	ErrExpired = errors.New("the token or certificate has expired")
)

// usedEvery is how exactly the last use of a token is known. Each time it is written is a commit.
const usedEvery = time.Hour

// decoy stands in for the record of an id that there is not, so that finding none costs the same. Nobody has a secret
// with its digest.
var decoy = func() []byte {
	_, _, digest := newSecret()
	text, err := json.Marshal(tokenRecord{Digest: digest, Token: Token{ID: "00000000", Name: "decoy", Kind: Read, CreatedAt: time.Unix(0, 0)}})
	if err != nil {
		panic(err) // a plain struct always encodes
	}
	return text
}()

// Check finds out whose token was presented. The error is ErrUnknown, ErrExpired, or the store's. ErrExpired is said
// only to who has the secret.
func (t *Tokens) Check(ctx context.Context, presented string) (Caller, error) {
	id, secret, ok := splitToken(presented)
	if !ok {
		return Caller{}, ErrUnknown
	}
	item, err := t.docs.Get(ctx, keyTokens+id)
	exists := 1
	switch {
	case errors.Is(err, store.ErrNotFound):
		exists, item = 0, store.Item{Key: keyTokens + id, Value: decoy}
	case err != nil:
		return Caller{}, fmt.Errorf("look up token: %w", err)
	}
	record, err := docstore.Decode[tokenRecord](item)
	if err != nil {
		return Caller{}, err
	}
	if subtle.ConstantTimeCompare(record.Digest, digestOf(secret))&exists != 1 {
		return Caller{}, ErrUnknown
	}
	now := t.now()
	if !record.ExpiresAt.IsZero() && !now.Before(record.ExpiresAt) {
		return Caller{}, ErrExpired
	}
	if now.Sub(record.LastUsed) >= usedEvery && record.Kind != Enrolment {
		t.used(ctx, item, record, now)
	}
	return Caller{Kind: record.Kind, ID: record.ID, Name: record.Name, Database: record.Database, Proxy: record.Proxy, Until: record.ExpiresAt}, nil
}

// used notes when a token was last used. It is a courtesy to people: when it can't be written, the request goes on,
// and the next one tries again. The condition keeps it from bringing back a token that was revoked meanwhile.
func (t *Tokens) used(ctx context.Context, item store.Item, record tokenRecord, now time.Time) {
	record.LastUsed = now.Truncate(time.Second)
	tx := new(store.Tx)
	tx.If(item.Key, item.Revision)
	if docstore.Put(tx, item.Key, record) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _ = t.docs.Commit(ctx, tx)
}
