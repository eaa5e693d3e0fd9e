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

// Spaces gives the names of the spaces that have an authority.
func (r *Registry) Spaces(ctx context.Context) ([]string, error) {
	items, _, err := r.docs.List(ctx, keySpaces)
	names := make([]string, 0, len(items))
	for _, item := range items {
		names = append(names, item.Key[len(keySpaces):])
	}
	return names, err
}

// Authorities gives a space's authorities: the one that signs, then those that are still trusted, then retired ones,
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
		return nil, problem.New(problem.NotFound, "space %s has no certificate authority; mutual TLS of its first database makes one", problem.Quote(space))
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

// Chain gives all that clients of a space trust, in PEM: its authorities and what is above them.
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

// RevocationList is a signed list of all that an authority has revoked and that has not expired, for whoever else trusts it.
type RevocationList struct {
	PEM        string
	Number     int64
	Revoked    int // entries
	NextUpdate time.Time
}

// RevocationList returns the newest list of an authority of a space, or of the one that signs if the id is empty. A retired
// authority has none: nobody is to trust it.
func (r *Registry) RevocationList(ctx context.Context, space, id string) (RevocationList, error) {
	const attempts = 5
	for n := 1; ; n++ {
		list, err := r.Authorities(ctx, space)
		if err != nil {
			return RevocationList{}, err
		}
		i := slices.IndexFunc(list, func(a Authority) bool { return a.ID == id || id == "" && a.State == ActiveCA })
		if i < 0 {
			return RevocationList{}, problem.New(problem.NotFound, "space %s has no authority %s", space, problem.Quote(id))
		}
		a := list[i]
		if a.State == RetiredCA {
			return RevocationList{}, problem.New(problem.Conflict, "authority %s of space %s was retired: nothing that it has signed is good any more, so it has no revocation list", id, space)
		}
		item, err := r.docs.Get(ctx, crlKey(a.ID, a.CRL))
		if errors.Is(err, store.ErrNotFound) && n < attempts {
			continue // a newer one has taken its place meanwhile
		}
		return RevocationList{PEM: string(item.Value), Number: a.CRL, Revoked: len(a.Revoked), NextUpdate: a.NextUpdate}, err
	}
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
		NotBefore: ca.NotBefore(), NotAfter: ca.NotAfter(), CreatedAt: now,
	}
	record.Active = a.ID
	tx.If(keySpaces+space, revision)
	tx.Put(keySigners+a.ID, r.docs.Ring.Seal(keySigners+a.ID, keyPEM))
	return a, errors.Join(
		docstore.Put(tx, keySpaces+space, record),
		r.putCRL(tx, ca, a, now))
}

// putCRL signs an authority's next revocation list, without what ended long ago, and adds it and the authority's document
// to a transaction that fails if the authority was changed meanwhile.
func (r *Registry) putCRL(tx *store.Tx, ca *authority.CA, a *Authority, now time.Time) error {
	a.Revoked = slices.DeleteFunc(a.Revoked, func(e Revoked) bool { return e.ExpiresAt.Add(keepRevoked).Before(now) })
	list := authority.CRL{Number: a.CRL + 1, ThisUpdate: now.Add(-backdate), NextUpdate: now.Add(r.lifetimes.CRL)}
	for _, e := range a.Revoked {
		list.Entries = append(list.Entries, authority.Revoked{Serial: e.Serial, At: e.At})
	}
	text, err := ca.SignCRL(list)
	if err != nil {
		return fmt.Errorf("sign the revocation list of %s: %w", a.Subject, err)
	}
	a.CRL, a.NextUpdate, a.UpdatedAt = list.Number, list.NextUpdate, now
	tx.If(authorityKey(a.Space, a.ID), a.revision)
	tx.Put(crlKey(a.ID, a.CRL), text)
	return docstore.Put(tx, authorityKey(a.Space, a.ID), a)
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

// find gives an authority of the database's space.
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

// syncTrust brings the authorities in the database's policy, and their revocation lists, up to date with the space.
func (c *change) syncTrust() error {
	list, err := c.ofSpace()
	if err != nil {
		return err
	}
	var trust []Trust
	for _, a := range list {
		if a.State == RetiredCA {
			continue
		}
		t := Trust{CA: a.ID, CRL: a.CRL, NextUpdate: a.NextUpdate}
		if old := c.db.trusts(a.ID); old != nil {
			t.Generation = old.Generation
		} else {
			t.Generation = c.newPolicy()
		}
		trust = append(trust, t)
	}
	if !slices.EqualFunc(trust, c.db.Trust, func(a, b Trust) bool { return a.CA == b.CA && a.CRL == b.CRL }) {
		c.db.Trust = trust
		c.newPolicy()
	}
	return nil
}

// trusts finds an authority in the database's policy.
func (db *Database) trusts(ca string) *Trust {
	if i := slices.IndexFunc(db.Trust, func(t Trust) bool { return t.CA == ca }); i >= 0 {
		return &db.Trust[i]
	}
	return nil
}

// revoke puts certificates on the revocation lists of their authorities, and the lists into the policy.
func (c *change) revoke(certificates ...*Certificate) error {
	touched := make(map[string]*Authority)
	for _, cert := range certificates {
		a, err := c.find(cert.CA)
		if err != nil {
			return err
		}
		cert.Generation, cert.UpdatedAt = c.newPolicy(), c.now
		cert.Status, cert.DisableAt = Disabling, time.Time{}
		if a.State == RetiredCA {
			continue // nothing trusts it
		}
		a.Revoked = append(a.Revoked, Revoked{Serial: cert.Serial, At: c.now, ExpiresAt: cert.ExpiresAt})
		touched[a.ID] = a
	}
	for _, a := range touched {
		ca, err := c.signerOf(a)
		if err != nil {
			return err
		}
		if err := c.putCRL(c.tx, ca, a, c.now); err != nil {
			return err
		}
	}
	return c.syncTrust()
}
