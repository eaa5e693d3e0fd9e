package acme

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// accountLock is held while an account is made, found or given another key, so that only one does it.
type accountLock chan struct{}

func (l accountLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l accountLock) unlock() { <-l }

func accountKey(ca string, n int) string { return fmt.Sprintf("%s%s/%d", keyAccountKeys, ca, n) }

// account returns our account at an authority, and makes it if there is none. The key is committed before the authority
// hears of it, so no account is ever there whose key is lost.
func (m *Manager) account(ctx context.Context, a *authority) (acmez.Account, error) {
	if err := a.accounts.lock(ctx); err != nil {
		return acmez.Account{}, err
	}
	defer a.accounts.unlock()
	kept, err := m.loadAccount(ctx, a)
	if err != nil {
		return acmez.Account{}, err
	}
	if kept.URL == "" && m.now().Before(kept.Retry) {
		p := newProblem(AccountProblem, "%s", kept.Problem)
		p.Everybody, p.NotBefore = true, kept.Retry
		return acmez.Account{}, p
	}
	key, _, err := m.sealedKey(ctx, accountKey(a.Name, kept.Key))
	if err != nil {
		return acmez.Account{}, err
	}
	if kept.NextKey != 0 && kept.URL != "" {
		if key, err = m.finishRollover(ctx, a, kept, key); err != nil {
			return acmez.Account{}, err
		}
	}
	if kept.URL == "" {
		if err := m.register(ctx, a, kept, key); err != nil {
			return acmez.Account{}, err
		}
	}
	return acmez.Account{Status: acmez.StatusValid, Location: kept.URL, PrivateKey: key}, nil
}

// loadAccount reads the account, or commits a new key for one.
func (m *Manager) loadAccount(ctx context.Context, a *authority) (*account, error) {
	kept, revision, err := docstore.Get[account](ctx, m.docs.Store, keyAccounts+a.Name)
	kept.revision = revision
	if err == nil && kept.Directory == a.Directory {
		return &kept, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	// Another directory under the same name is another authority, whose account it is not.
	_, text, err := newKey()
	if err != nil {
		return nil, err
	}
	fresh := account{Directory: a.Directory, Key: kept.Key + 1, revision: kept.revision}
	tx := new(store.Tx)
	at := accountKey(a.Name, fresh.Key)
	tx.Put(at, m.docs.Ring.Seal(at, text))
	return &fresh, m.putAccount(ctx, a, tx, &fresh)
}

func (m *Manager) putAccount(ctx context.Context, a *authority, tx *store.Tx, kept *account) (err error) {
	if err := put(tx, keyAccounts+a.Name, kept.revision, kept); err != nil {
		return err
	}
	kept.revision, err = m.docs.Commit(ctx, tx)
	return err
}

// register makes the account, or finds the one of the key. What is refused is tried again less and less often.
func (m *Manager) register(ctx context.Context, a *authority, kept *account, key crypto.Signer) error {
	url, err := a.client.register(ctx, key)
	p, isProblem := errors.AsType[*Problem](err)
	tx, event := new(store.Tx), Event{At: m.now(), CA: a.Name}
	switch {
	case err == nil:
		kept.URL, kept.Problem, kept.Retry, kept.Failures = url, "", time.Time{}, 0
		event.Kind, event.Account = EventAccount, url
		m.log.Info().Str("ca", a.Name).Str("account", url).Msg("account at the certificate authority")
	case isProblem && p.Reason == AccountProblem:
		kept.Failures++
		kept.Problem, kept.Retry = p.Detail, m.now().Add(backoff(kept.Failures))
		p.NotBefore = kept.Retry
		if kept.Failures == 1 {
			event.Kind, event.Problem = EventRefused, p
		}
		m.log.Error().Err(err).Str("ca", a.Name).Msg("the certificate authority refuses an account")
	default:
		return err
	}
	if event.Kind != "" {
		if err := m.record(tx, event); err != nil {
			return err
		}
	}
	return errors.Join(m.putAccount(ctx, a, tx, kept), err)
}

// forgetAccount notes that the authority does not know the account any more, so that the next order makes it anew.
func (m *Manager) forgetAccount(ctx context.Context, a *authority, url string) error {
	if err := a.accounts.lock(ctx); err != nil {
		return err
	}
	defer a.accounts.unlock()
	kept, err := m.loadAccount(ctx, a)
	if err != nil || kept.URL != url {
		return err // somebody else has made another one meanwhile
	}
	m.log.Error().Str("ca", a.Name).Str("account", url).Msg("the certificate authority does not know our account any more; making a new one: CAA and dns-persist-01 records that name the old one must be changed")
	kept.URL = ""
	tx := new(store.Tx)
	p := newProblem(AccountProblem, "the authority %s does not know our account %s any more, and a new one is made; change the CAA and dns-persist-01 records that name the old one", a.Name, url)
	if err := m.record(tx, Event{Kind: EventRefused, At: m.now(), CA: a.Name, Account: url, Problem: p}); err != nil {
		return err
	}
	return m.putAccount(ctx, a, tx, kept)
}

// Rollover gives the account at an authority a new key. Its URL stays as it is, and so do the CAA and dns-persist-01
// records that name it. After an error it may have been done or not; the next order finds out.
func (m *Manager) Rollover(ctx context.Context, ca string) error {
	a := m.authority(ca)
	if a == nil {
		return problem.New(problem.NotFound, "there is no certificate authority %s in the configuration", problem.Quote(ca))
	}
	if _, err := m.account(ctx, a); err != nil {
		return err
	}
	if err := a.accounts.lock(ctx); err != nil {
		return err
	}
	defer a.accounts.unlock()
	kept, err := m.loadAccount(ctx, a)
	if err != nil {
		return err
	}
	old, _, err := m.sealedKey(ctx, accountKey(a.Name, kept.Key))
	if err != nil {
		return err
	}
	if kept.NextKey == 0 {
		_, text, err := newKey()
		if err != nil {
			return err
		}
		kept.NextKey = kept.Key + 1
		at := accountKey(a.Name, kept.NextKey)
		if err := m.putAccount(ctx, a, new(store.Tx).Put(at, m.docs.Ring.Seal(at, text)), kept); err != nil {
			return err
		}
	}
	_, err = m.finishRollover(ctx, a, kept, old)
	return err
}

// finishRollover has the authority know the next key, unless it does already, and forgets the old one.
func (m *Manager) finishRollover(ctx context.Context, a *authority, kept *account, old crypto.Signer) (crypto.Signer, error) {
	next, _, err := m.sealedKey(ctx, accountKey(a.Name, kept.NextKey))
	if err != nil {
		return nil, err
	}
	url, err := a.client.find(ctx, next)
	p, isProblem := errors.AsType[*Problem](err)
	switch {
	case isProblem && p.kind == "accountDoesNotExist":
		if err := a.client.rollover(ctx, acmez.Account{Location: kept.URL, PrivateKey: old}, next); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case url != kept.URL:
		return nil, newProblem(AccountProblem, "the next key of the account at %s belongs to another account, %s", a.Name, url)
	}
	tx := new(store.Tx).Delete(accountKey(a.Name, kept.Key))
	kept.Key, kept.NextKey = kept.NextKey, 0
	if err := m.record(tx, Event{Kind: EventRollover, At: m.now(), CA: a.Name, Account: kept.URL}); err != nil {
		return nil, err
	}
	m.log.Info().Str("ca", a.Name).Str("account", kept.URL).Msg("the account has a new key")
	return next, m.putAccount(ctx, a, tx, kept)
}
