package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/problem"
)

// tryCA issues in memory what an authority will have to issue once it signs for a space: for each of its databases a client
// certificate and the server certificate, and a revocation list. What a CA from outside may do is decided by its constraints, and by
// those above it; an authority that can't do its work must not become the one that signs. Trusted are the authorities that the
// policies have beside it: where one issued the other, proxies take that one for an intermediate.
func (r *Registry) tryCA(ctx context.Context, space string, ca *authority.CA, trusted []Authority) error {
	databases, err := r.Databases(ctx)
	if err != nil {
		return err
	}
	t := caTrial{Registry: r, now: r.now()}
	key, _, err := authority.GenerateKey()
	if err != nil {
		return err
	}
	t.request = authority.Request{PublicKey: key.Public(), NotBefore: t.now.Add(-backdate), NotAfter: t.now.Add(r.lifetimes.Server)}
	if _, err := ca.SignCRL(authority.CRL{Number: 1, ThisUpdate: t.now.Add(-backdate), NextUpdate: t.now.Add(time.Hour)}); err != nil {
		return unusable(err)
	}
	var above [][]byte
	var below []*authority.CA
	for i := range trusted {
		other, own := &trusted[i], ca.CertificatePEM()
		if other.State == RetiredCA {
			continue
		}
		isAbove, aboveErr := authority.IssuedBy(own, []byte(other.CertificatePEM))
		isBelow, belowErr := authority.IssuedBy([]byte(other.CertificatePEM), own)
		if err := errors.Join(aboveErr, belowErr); err != nil {
			return fmt.Errorf("read the certificate of %s: %w", other.Subject, err)
		}
		if isAbove {
			above = append(above, []byte(other.CertificatePEM))
		}
		if isBelow {
			signer, err := r.signer(ctx, other)
			if err != nil {
				return err
			}
			below = append(below, signer)
		}
	}
	tried := false
	for _, db := range databases {
		if db.Space != space {
			continue
		}
		tried = true
		if err := t.database(ca, &db, above); err != nil {
			return unusable(fmt.Errorf("database %s: %w", db.Name, err))
		}
		for _, other := range below {
			if err := t.database(other, &db, [][]byte{ca.CertificatePEM()}); err != nil {
				return unusable(fmt.Errorf("database %s: a certificate of the CA %q, which it issued: %w", db.Name, other.Name(), err))
			}
		}
	}
	if !tried {
		_, err = t.client(ca, &Database{ID: newID(), Name: "database"})
		return unusable(err)
	}
	return nil
}

// unusable makes a refusal of the reason why a CA can't be used.
func unusable(err error) error {
	if err == nil {
		return nil
	}
	return problem.New(problem.InvalidParams, "this CA can't be used, and nothing was changed: %s", err)
}

// caTrial is what the trials of one authority have in common.
type caTrial struct {
	*Registry
	now     time.Time
	request authority.Request
}

// database tries the certificates of a database, also as they are seen below other authorities.
func (t *caTrial) database(ca *authority.CA, db *Database, above [][]byte) error {
	client, err := t.client(ca, db)
	if err != nil {
		return err
	}
	request := t.request
	request.CommonName, request.Hosts = db.Name, db.Hosts
	server, err := ca.IssueServer(request)
	if err != nil {
		return fmt.Errorf("its server certificate: %w", err)
	}
	for _, root := range above {
		for _, certificate := range [][]byte{client.CertificatePEM, server.CertificatePEM} {
			if err := authority.VerifyBelow(root, certificate); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *caTrial) client(ca *authority.CA, db *Database) (authority.Issued, error) {
	request := t.request
	request.CommonName, request.URIs = certificateName(db, newID()), []string{identity(db.ID)}
	issued, err := ca.IssueClient(request)
	if err != nil {
		return issued, fmt.Errorf("a client certificate: %w", err)
	}
	return issued, nil
}

// issueError makes a refusal of an error of issuing, if it is the authority's limits that forbid it.
func issueError(what string, err error) error {
	if limit, ok := errors.AsType[*authority.LimitError](err); ok {
		return problem.New(problem.InvalidParams, "%s can't be issued: %s", what, limit)
	}
	return fmt.Errorf("issue %s: %w", what, err)
}
