package registry

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
)

// A revocation writes a small record, and signs the list of its own database. The list of a whole space is signed when
// somebody asks for it, so what other databases revoke neither slows a revocation down nor takes its room.
//
// See docs/decisions/0020-room-to-revoke.md.

// revokedKey is the key of what one change of a database revoked of an authority.
func revokedKey(ca, database string, generation int64) string {
	return fmt.Sprintf("%s%s/%s/%020d", keyRevoked, ca, database, generation)
}

// listKey is the key of a database's own revocation list.
func listKey(database string, t Trust) string {
	return fmt.Sprintf("%s%s/%s/%020d", keyLists, database, t.CA, t.CRL)
}

// revoke puts certificates on the database's revocation lists, and the lists into the policy. A change calls it once, and
// before anything else that signs a list.
func (c *change) revoke(certificates ...*Certificate) error {
	if c.revoking != nil || len(c.signed) > 0 {
		return errors.New("a change revoked after it had signed its revocation lists")
	}
	revoking := make(map[string][]Revoked)
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
		revoking[a.ID] = append(revoking[a.ID], Revoked{Serial: cert.Serial, At: c.now, ExpiresAt: cert.ExpiresAt})
	}
	for ca, entries := range revoking {
		if err := docstore.Put(c.tx, revokedKey(ca, c.db.ID, c.newPolicy()), entries); err != nil {
			return err
		}
	}
	c.revoking = revoking
	return c.syncTrust()
}

// syncTrust brings the authorities in the database's policy up to date with the space, and signs the database's
// revocation lists that are due or get a new entry.
//
// A list that is only due by its age keeps nobody waiting: if it can't be signed, the old one stays, and c.unsigned says why.
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
		t := Trust{CA: a.ID}
		if old := c.db.trusts(a.ID); old != nil {
			t = *old
		} else {
			t.Generation = c.newPolicy()
		}
		must := t.CRL == 0 || len(c.revoking[a.ID]) > 0
		if !c.signed[a.ID] && (must || !c.listDue(t, c.now).After(c.now)) {
			c.signed[a.ID] = true
			switch fresh, err := c.signList(a, t); {
			case err == nil && !must:
				t = fresh
				if err := c.audit("crl.sign", a.ID, map[string]string{"number": fmt.Sprint(t.CRL)}); err != nil {
					return err
				}
			case err == nil:
				t = fresh
			case must:
				return err
			default:
				c.unsigned = errors.Join(c.unsigned, fmt.Errorf("authority %s of space %s: %w", a.ID, a.Space, err))
			}
		}
		trust = append(trust, t)
	}
	for _, old := range c.db.Trust {
		if old.Own && !slices.ContainsFunc(trust, func(t Trust) bool { return t.CA == old.CA }) {
			c.tx.Delete(listKey(c.db.ID, old))
		}
	}
	if !slices.EqualFunc(trust, c.db.Trust, func(a, b Trust) bool { return a.CA == b.CA && a.CRL == b.CRL && a.Own == b.Own }) {
		c.db.Trust = trust
		c.newPolicy()
	}
	return nil
}

// listDue returns when the list of an authority in a policy has to be signed anew. One of an older release, which has the
// whole space, is due now.
func (r *Registry) listDue(t Trust, now time.Time) time.Time {
	if !t.Own || r.earlyList(t.NextUpdate, now) {
		return now
	}
	return t.NextUpdate.Add(-r.lifetimes.CRL / 2)
}

// signList signs the database's next list of an authority, which takes the place of the one before.
func (c *change) signList(a *Authority, t Trust) (Trust, error) {
	entries, err := c.revokedOf(c.ctx, a, c.db.ID+"/", c.revoking[a.ID])
	if err != nil {
		return t, err
	}
	ca, err := c.signerOf(a)
	if err != nil {
		return t, err
	}
	list := c.listOf(entries, t.CRL+1, c.now)
	text, err := ca.SignCRL(list)
	if err != nil {
		return t, fmt.Errorf("sign the revocation list of %s: %w", a.Subject, err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return t, fmt.Errorf("the revocation list of %s was not written in PEM", a.Subject)
	}
	if t.Own {
		c.tx.Delete(listKey(c.db.ID, t))
	}
	t.Own, t.CRL, t.NextUpdate, t.Revoked = true, list.Number, list.NextUpdate, len(entries)
	c.tx.Put(listKey(c.db.ID, t), block.Bytes)
	return t, nil
}

// list reads the revocation list that a document names, in PEM.
func (r *Registry) list(ctx context.Context, database string, t Trust) ([]byte, error) {
	if !t.Own {
		item, err := r.docs.Get(ctx, crlKey(t.CA, t.CRL))
		return item.Value, err
	}
	item, err := r.docs.Get(ctx, listKey(database, t))
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: item.Value}), err
}

// listOf is a list that is signed now.
func (r *Registry) listOf(entries []Revoked, number int64, now time.Time) authority.CRL {
	list := authority.CRL{Number: number, ThisUpdate: now.Add(-backdate), NextUpdate: now.Add(r.lifetimes.CRL)}
	for _, e := range entries {
		list.Entries = append(list.Entries, authority.Revoked{Serial: e.Serial, At: e.At})
	}
	return list
}

// revokedOf returns what was revoked of an authority and did not end long ago, by serial, each once: of a database if its
// id and "/" are given, of the space otherwise. Entries of an older release whose database is unknown belong to all. The
// authority has to be read before: see [Registry.distribute].
func (r *Registry) revokedOf(ctx context.Context, a *Authority, database string, more []Revoked) ([]Revoked, error) {
	items, _, err := r.docs.List(ctx, keyRevoked+a.ID+"/"+database)
	if err != nil {
		return nil, err
	}
	entries := slices.Concat(a.Revoked, more)
	for _, item := range items {
		some, err := docstore.Decode[[]Revoked](item)
		if err != nil {
			return nil, err
		}
		entries = append(entries, some...)
	}
	now := r.now()
	entries = slices.DeleteFunc(entries, func(e Revoked) bool { return e.over(now) })
	slices.SortFunc(entries, func(a, b Revoked) int { return cmp.Or(cmp.Compare(a.Serial, b.Serial), a.At.Compare(b.At)) })
	return slices.CompactFunc(entries, func(a, b Revoked) bool { return a.Serial == b.Serial }), nil
}

// over reports whether the certificate ended so long ago that no list needs it.
func (e Revoked) over(now time.Time) bool { return e.ExpiresAt.Add(keepRevoked).Before(now) }
