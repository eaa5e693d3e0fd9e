package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// CountRevoked returns how many certificates of an authority are revoked and did not end long ago.
func (r *Registry) CountRevoked(ctx context.Context, a Authority) (int, error) {
	if a.State == RetiredCA {
		return 0, nil
	}
	entries, err := r.revokedOfSpace(ctx, &a)
	return len(entries), err
}

// revokedOfSpace is revokedOf for all databases. It reads much, so that one caller after the other does.
func (r *Registry) revokedOfSpace(ctx context.Context, a *Authority) ([]Revoked, error) {
	select {
	case r.reading <- struct{}{}:
		defer func() { <-r.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return r.revokedOf(ctx, a, "", nil)
}

// RevocationList is a signed list of all that an authority has revoked and that has not expired, for whoever else trusts it.
type RevocationList struct {
	PEM        string
	Number     int64 // grows from list to list
	Revoked    int   // entries
	NextUpdate time.Time
}

// RevocationList signs the list of an authority of a space, or of the one that signs if the id is empty. A retired authority
// has none: nobody is to trust it. The number is the time in microseconds, so that nothing has to be written for a list.
func (r *Registry) RevocationList(ctx context.Context, space, id string) (RevocationList, error) {
	all, err := r.Authorities(ctx, space)
	if err != nil {
		return RevocationList{}, err
	}
	i := slices.IndexFunc(all, func(a Authority) bool { return a.ID == id || id == "" && a.State == ActiveCA })
	if i < 0 {
		return RevocationList{}, problem.New(problem.NotFound, "space %s has no authority %s", space, problem.Quote(id))
	}
	a := all[i]
	if a.State == RetiredCA {
		return RevocationList{}, problem.New(problem.Conflict, "authority %s of space %s was retired: nothing that it has signed is good any more, so it has no revocation list", id, space)
	}
	entries, err := r.revokedOfSpace(ctx, &a)
	if err != nil {
		return RevocationList{}, err
	}
	ca, err := r.signer(ctx, &a)
	if err != nil {
		return RevocationList{}, err
	}
	now := r.now()
	list := r.listOf(entries, now.UnixMicro(), now)
	list.NextUpdate = list.NextUpdate.Truncate(time.Second) // as it is written
	text, err := ca.SignCRL(list)
	if err != nil {
		return RevocationList{}, fmt.Errorf("sign the revocation list of %s: %w", a.Subject, err)
	}
	return RevocationList{PEM: string(text), Number: list.Number, Revoked: len(entries), NextUpdate: list.NextUpdate}, nil
}

// distribute moves what an older release kept of an authority's revoked certificates to the databases that still list
// them. The others stay, and are in the list of every database until they have ended.
//
// An entry is never missing meanwhile: a list takes the authority's entries first and those of the databases after that.
func (r *Registry) distribute(ctx context.Context, a *Authority, databases []Database) error {
	if len(a.Revoked) == 0 {
		return nil
	}
	const most = 100 // databases of one transaction; the next call takes the others
	tx, moved, puts := new(store.Tx), make(map[string]bool), 0
	for _, db := range databases {
		var own []Revoked
		for _, e := range a.Revoked {
			if slices.ContainsFunc(db.Certificates, func(cert Certificate) bool { return cert.CA == a.ID && cert.Serial == e.Serial }) {
				own = append(own, e)
				moved[e.Serial] = true
			}
		}
		if len(own) == 0 {
			continue
		}
		// No change has the generation 0, and no two moves begin with the same revision of the authority.
		if err := docstore.Put(tx, fmt.Sprintf("%s-%d", revokedKey(a.ID, db.ID, 0), a.revision), own); err != nil {
			return err
		}
		if puts++; puts == most {
			break
		}
	}
	if puts == 0 {
		return nil
	}
	rest := *a
	rest.Revoked = slices.DeleteFunc(slices.Clone(a.Revoked), func(e Revoked) bool { return moved[e.Serial] })
	key := authorityKey(a.Space, a.ID)
	tx.If(key, a.revision)
	if err := docstore.Put(tx, key, rest); err != nil {
		return err
	}
	revision, err := r.docs.Commit(ctx, tx)
	if err != nil {
		return err
	}
	rest.revision = revision
	*a = rest
	return nil
}
