package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// RetireCA takes an authority out of every policy: the certificates that it issued are let in no more. Unless forced,
// every proxy of the space is asked first, and it is refused as long as the successor of one was not seen in its place, or a
// proxy can't be asked.
func (r *Registry) RetireCA(ctx context.Context, by audit.Actor, space, id string, force bool) (Authority, error) {
	var retired Authority
	var seen *Observation // of one question, however many attempts there are
	err := r.attempt(ctx, func() error {
		list, err := r.Authorities(ctx, space)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(a Authority) bool { return a.ID == id })
		if i < 0 {
			return problem.New(problem.NotFound, "space %s has no authority %s", space, problem.Quote(id))
		}
		retired = list[i]
		switch retired.State {
		case RetiredCA:
			return nil
		case ActiveCA:
			return problem.New(problem.Conflict, "authority %s is the signing authority of space %s; rotate first, then retire it", id, space)
		}
		if !force {
			if seen == nil {
				now, err := r.Observe(ctx, space)
				if err != nil {
					return err
				}
				seen = &now
			}
			if err := r.refuseUsed(ctx, space, id, *seen); err != nil {
				return err
			}
		}
		tx, now := new(store.Tx), r.now()
		retired.State, retired.UpdatedAt, retired.Revoked = RetiredCA, now, nil
		tx.If(authorityKey(space, id), retired.revision)
		tx.Delete(keySigners + id)
		if err := docstore.Put(tx, authorityKey(space, id), retired); err != nil {
			return err
		}
		detail := map[string]string{"subject": retired.Subject, "force": fmt.Sprint(force)}
		if err := r.trail.Add(tx, by, now, audit.Record{Action: "ca.retire", Space: space, Object: id, Detail: detail}); err != nil {
			return err
		}
		_, err = r.docs.Commit(ctx, tx)
		return err
	})
	if err != nil {
		return Authority{}, err
	}
	return retired, r.followSpace(ctx, space)
}

// refuseUsed refuses to retire an authority that clients depend on, or may depend on as far as one knows.
func (r *Registry) refuseUsed(ctx context.Context, space, id string, seen Observation) error {
	users, err := r.CAUsers(ctx, space, id, seen)
	if err != nil {
		return err
	}
	var used []string
	for _, u := range users {
		if !u.Server && !u.Replaced {
			used = append(used, u.Certificate.Name+" of "+u.Database)
		}
	}
	silent, err := r.Silent(ctx, space, seen)
	if err != nil {
		return err
	}
	unknown := make([]string, len(silent))
	for i, s := range silent {
		unknown[i] = fmt.Sprintf("%s of %s (%s)", s.Proxy, s.Database, strings.TrimSuffix(bounded(s.Err.Error()), "."))
	}
	asOf := seen.At.UTC().Format(time.RFC3339)
	const remedy = "start it and its agent, remove it if it is gone for good, or force it"
	switch {
	case len(used) > 0 && len(unknown) > 0:
		return problem.New(problem.Conflict, "authority %s is still in use as of %s, as far as the proxies have seen, by %s; move their owners to the successors, delete unused certificates, or force it. It was also not possible to ask the proxy %s; "+remedy, id, asOf, firstFive(used), firstFive(unknown))
	case len(used) > 0:
		return problem.New(problem.Conflict, "authority %s is still in use as of %s, as far as the proxies have seen, by %s; move their owners to the successors, delete unused certificates, or force it", id, asOf, firstFive(used))
	case len(unknown) > 0:
		return problem.New(problem.Conflict, "authority %s may still be in use: as of %s, it was not possible to ask the proxy %s; "+remedy, id, asOf, firstFive(unknown))
	}
	return nil
}

// firstFive lists texts, and counts those beyond the fifth.
func firstFive(texts []string) string {
	rest := ""
	if len(texts) > 5 {
		texts, rest = texts[:5], fmt.Sprintf(" and %d more", len(texts)-5)
	}
	return strings.Join(texts, ", ") + rest
}
