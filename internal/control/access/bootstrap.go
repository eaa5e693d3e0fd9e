package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"pgmtls-proxy/internal/atomicfile"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Bootstrap makes the token "admin" of scope all when a control plane starts for the first time, and writes it into
// the file, for its owner only. Of daemons that start together one does it. It is done once in the life of a store:
// an "admin" that was revoked does not come back.
//
// The file is written before the token is good. A daemon that dies in between has left a token that is none, and its
// next start makes another; the other way round, nobody would have one.
func (t *Tokens) Bootstrap(ctx context.Context, file string) (made bool, err error) {
	if _, err := t.docs.Get(ctx, keyBootstrap); err == nil {
		return false, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return false, fmt.Errorf("look for the first token: %w", err)
	}
	id, presented, digest := newSecret()
	record := tokenRecord{Digest: digest, Token: Token{ID: id, Name: "admin", Kind: All, CreatedAt: t.now(), CreatedBy: audit.System.Name}}
	if err := writeToken(file, presented); err != nil {
		return false, fmt.Errorf("write the first token: %w", err)
	}
	tx := new(store.Tx)
	tx.If(keyBootstrap, 0)
	tx.Put(keyBootstrap, []byte(id))
	tx.Put(keyTokenNames+record.Name, []byte(id))
	if err := docstore.Put(tx, keyTokens+id, record); err != nil {
		return false, err
	}
	switch _, err := t.docs.Commit(ctx, tx); {
	case errors.Is(err, store.ErrConflict): // another daemon was faster, with its own file
		return false, dropToken(file, presented)
	case err != nil:
		return false, fmt.Errorf("create the first token: %w", err)
	}
	return true, nil
}

// Recover makes another token of scope all, and writes it into the file, for its owner only: for an operator who has lost
// every one. It needs what the daemon needs, the store and its master key, and no token.
func (t *Tokens) Recover(ctx context.Context, file string) (Token, error) {
	name := "admin-" + t.now().UTC().Format("20060102T150405.000000Z")
	token, presented, err := t.Create(ctx, NewToken{Name: name, Kind: All, CreatedBy: audit.System.Name})
	if err != nil {
		return Token{}, err
	}
	if err := writeToken(file, presented); err != nil {
		_, revoking := t.remove(ctx, token.ID, false)
		return Token{}, errors.Join(fmt.Errorf("write the new token: %w", err), revoking)
	}
	return token, nil
}

// writeToken replaces the file as a whole, for its owner only.
func writeToken(file, presented string) error {
	return atomicfile.Replace(file, []byte(presented+"\n"), 0o600)
}

// dropToken removes the file if the token in it is the one that never became good.
func dropToken(file, presented string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(text) != presented+"\n" {
		return nil
	}
	return errors.Join(err, os.Remove(file))
}
