package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// spaceRecord is a space. Its revision guards which authority signs.
type spaceRecord struct {
	Name      string    `json:"name"`
	Active    string    `json:"active"` // id of the authority that signs
	CreatedAt time.Time `json:"created_at"`
}

func authorityKey(space, id string) string { return keyAuthorities + space + "/" + id }

func crlKey(ca string, number int64) string { return fmt.Sprintf("%s%s/%020d", keyCRLs, ca, number) }

// Spaces returns the names of the spaces that have an authority.
func (r *Registry) Spaces(ctx context.Context) ([]string, error) {
	items, _, err := r.docs.List(ctx, keySpaces)
	names := make([]string, 0, len(items))
	for _, item := range items {
		names = append(names, item.Key[len(keySpaces):])
	}
	return names, err
}

// Authorities returns a space's authorities: the one that signs, then those that are still trusted, then retired ones,
// each the newest first.
func (r *Registry) Authorities(ctx context.Context, space string) ([]Authority, error) {
	if !namePattern.MatchString(space) {
		return nil, problem.New(problem.NotFound, "there is no space %s", problem.Quote(space))
	}
	items, _, err := r.docs.List(ctx, keyAuthorities+space+"/")
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, problem.New(problem.NotFound, "space %s has no certificate authority; enabling mutual TLS for its first database creates one", problem.Quote(space))
	}
	list := make([]Authority, 0, len(items))
	for _, item := range items {
		a, err := docstore.Decode[Authority](item)
		if err != nil {
			return nil, err
		}
		a.revision = item.Revision
		list = append(list, a)
	}
	order := map[AuthorityState]int{ActiveCA: 0, RetiringCA: 1, RetiredCA: 2}
	slices.SortFunc(list, func(a, b Authority) int {
		return cmp.Or(cmp.Compare(order[a.State], order[b.State]), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// Chain returns all that clients of a space trust, in PEM: its authorities and what is above them.
func (r *Registry) Chain(ctx context.Context, space string) (string, error) {
	list, err := r.Authorities(ctx, space)
	if err != nil {
		return "", err
	}
	var chain string
	for _, a := range list {
		if a.State != RetiredCA {
			chain += a.ChainPEM
		}
	}
	return chain, nil
}

// signer opens an authority's key.
func (r *Registry) signer(ctx context.Context, a *Authority) (*authority.CA, error) {
	key := keySigners + a.ID
	item, err := r.docs.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", a.Subject, err)
	}
	keyPEM, err := r.docs.Ring.Open(key, item.Value)
	if err != nil {
		return nil, fmt.Errorf("open the key of %s: %w", a.Subject, err)
	}
	return authority.ParseCA([]byte(a.ChainPEM), keyPEM)
}

// makeCA makes a new authority for a space.
func (r *Registry) makeCA(space string) (*authority.CA, error) {
	now := r.now()
	name := fmt.Sprintf("%s space CA %s", space[:min(len(space), 32)], now.Format("2006-01-02 15:04:05"))
	return authority.NewCA(authority.Subject{CommonName: name}, now.Add(-backdate), now.AddDate(r.lifetimes.CAYears, 0, 0))
}

// putActive makes an authority the one that signs for a space, in a transaction that the space's record guards.
func (r *Registry) putActive(ctx context.Context, tx *store.Tx, space string, ca *authority.CA, external bool) (*Authority, error) {
	now := r.now()
	record, revision, err := docstore.Get[spaceRecord](ctx, r.docs.Store, keySpaces+space)
	if errors.Is(err, store.ErrNotFound) {
		record, err = spaceRecord{Name: space, CreatedAt: now}, nil
	}
	if err != nil {
		return nil, err
	}
	keyPEM := ca.KeyPEM()
	a := &Authority{
		ID: newID(), Space: space, Subject: ca.Name(), State: ActiveCA, External: external,
		CertificatePEM: string(ca.CertificatePEM()), ChainPEM: string(ca.ChainPEM()),
		NotBefore: ca.NotBefore(), NotAfter: ca.NotAfter(), CreatedAt: now, UpdatedAt: now,
	}
	record.Active = a.ID
	tx.If(keySpaces+space, revision)
	tx.Put(keySigners+a.ID, r.docs.Ring.Seal(keySigners+a.ID, keyPEM))
	tx.If(authorityKey(space, a.ID), 0)
	return a, errors.Join(
		docstore.Put(tx, keySpaces+space, record),
		docstore.Put(tx, authorityKey(space, a.ID), a))
}

// ofSpace loads the authorities of the database's space, once in a change.
func (c *change) ofSpace() ([]*Authority, error) {
	if c.loaded {
		return c.authorities, nil
	}
	list, err := c.Authorities(c.ctx, c.db.Space)
	var none *problem.Error
	if err != nil && !errors.As(err, &none) {
		return nil, err
	}
	for i := range list {
		c.authorities = append(c.authorities, &list[i])
	}
	c.loaded = true
	return c.authorities, nil
}

// active is the authority that signs for the database's space. A space without one gets it here.
func (c *change) active() (*Authority, error) {
	list, err := c.ofSpace()
	if err != nil {
		return nil, err
	}
	if len(list) > 0 && list[0].State == ActiveCA {
		return list[0], nil
	}
	ca, err := c.makeCA(c.db.Space)
	if err != nil {
		return nil, err
	}
	a, err := c.putActive(c.ctx, c.tx, c.db.Space, ca, false)
	if err != nil {
		return nil, err
	}
	c.signers[a.ID] = ca
	c.authorities = append([]*Authority{a}, c.authorities...)
	return a, c.audit("ca.create", a.ID, map[string]string{"subject": a.Subject})
}

// signerOf opens an authority's key, once in a change.
func (c *change) signerOf(a *Authority) (*authority.CA, error) {
	if ca := c.signers[a.ID]; ca != nil {
		return ca, nil
	}
	ca, err := c.signer(c.ctx, a)
	if err == nil {
		c.signers[a.ID] = ca
	}
	return ca, err
}

// find returns an authority of the database's space.
func (c *change) find(id string) (*Authority, error) {
	list, err := c.ofSpace()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(list, func(a *Authority) bool { return a.ID == id }); i >= 0 {
		return list[i], nil
	}
	return nil, fmt.Errorf("authority %s of space %s is not in the store", id, c.db.Space)
}

// trusts finds an authority in the database's policy.
func (db *Database) trusts(ca string) *Trust {
	if i := slices.IndexFunc(db.Trust, func(t Trust) bool { return t.CA == ca }); i >= 0 {
		return &db.Trust[i]
	}
	return nil
}
