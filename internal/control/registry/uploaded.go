package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/problem"
)

// UploadedCertificate is a certificate that somebody brings for a database.
type UploadedCertificate struct {
	CertificatePEM, KeyPEM []byte // the chain, the server's own first; its key
	Host                   string // the public name; empty: the first name of the certificate that is no wildcard
}

// uploaded reports whether the certificate was brought: nobody renews it.
func (e *Enhanced) uploaded() bool { return e.Certificate == "" }

// UploadEnhanced gives a database a certificate that somebody brings, in the place of the one that it has. It is checked as the
// proxies will check it. It needs no public authority; people are told before its end.
func (r *Registry) UploadEnhanced(ctx context.Context, by audit.Actor, db string, u UploadedCertificate) (Database, error) {
	parsed, err := acme.ParseUploaded(u.CertificatePEM, u.KeyPEM, r.now())
	if err != nil {
		return Database{}, err
	}
	host, err := uploadedHost(parsed.Names, u.Host)
	if err != nil {
		return Database{}, err
	}
	sum := sha256.Sum256(parsed.ChainPEM)
	source := hex.EncodeToString(sum[:])
	return r.change(ctx, by, db, func(c *change) error {
		c.adds = true
		if m := c.db.MTLS; m != nil && m.Status == Deprovisioning {
			return problem.New(problem.Conflict, "mutual TLS of database %s is being destroyed; try again when it is gone (pgmtls mtls status %s)", c.db.Name, c.db.Name)
		}
		for _, name := range parsed.Names {
			if slices.Contains(c.db.Hosts, name) {
				return problem.New(problem.Conflict, "%s is a name of the private certificate of database %s already, and a client could not choose between the two; bring a certificate without it", name, c.db.Name)
			}
		}
		e := c.db.Enhanced
		fresh := &EnhancedLeaf{ID: newID(), Source: source, Issuer: parsed.Issuer, Serial: parsed.Serial, NotBefore: parsed.NotBefore, NotAfter: parsed.NotAfter}
		switch {
		case !fresh.usableUntil().After(c.now):
			return problem.New(problem.InvalidParams, "certificate: it ends at %s; bring one that lasts", parsed.NotAfter.Format(time.RFC3339))
		case e.wanted() && e.uploaded() && e.Leaf != nil && e.Leaf.Source == source && e.Host == host && c.db.governed():
			return errUnchanged
		}
		if !c.db.governed() {
			if err := c.letInByRules(); err != nil {
				return err
			}
		}
		if err := c.putUploaded(host, parsed, fresh); err != nil {
			return err
		}
		return c.audit("enhanced_certificate.upload", c.db.ID, map[string]string{"host": host, "serial": fresh.Serial, "issuer": fresh.Issuer, "not_after": fresh.NotAfter.Format(time.RFC3339)})
	})
}

// putUploaded puts a certificate that was brought into the policy. A database that is Enabled by the same name stays so.
func (c *change) putUploaded(host string, parsed acme.Uploaded, fresh *EnhancedLeaf) error {
	next := &Enhanced{Status: Provisioning, Host: host, Names: parsed.Names, EnabledBy: c.by.Name, Leaf: fresh, Generation: c.newPolicy(), CreatedAt: c.now, UpdatedAt: c.now}
	if e := c.db.Enhanced; e != nil {
		if e.Leaf != nil {
			c.tx.Delete(keyLeaves + e.Leaf.ID)
		}
		next.CreatedAt = e.CreatedAt
		if e.Host == host && e.Status == Enabled {
			next.Status, next.Announced = Enabled, e.Announced
		}
	}
	c.db.Enhanced = next
	return c.putLeaf(fresh.ID, parsed.ChainPEM, parsed.KeyPEM)
}

// uploadedHost is the public name that a certificate that was brought is for.
func uploadedHost(names []string, asked string) (string, error) {
	host := strings.ToLower(strings.TrimSuffix(asked, "."))
	if host == "" {
		for _, name := range names {
			if !strings.HasPrefix(name, "*.") {
				return name, nil
			}
		}
		return "", problem.New(problem.InvalidParams, "host: the certificate has only wildcards; say which name clients use, such as %s", strings.Replace(names[0], "*", "db", 1))
	}
	if err := acme.CheckName(host); err != nil || strings.HasPrefix(host, "*.") {
		return "", problem.New(problem.InvalidParams, "host: %s is not a host name", problem.Quote(asked))
	}
	_, parent, _ := strings.Cut(host, ".")
	if !slices.Contains(names, host) && !slices.Contains(names, "*."+parent) {
		return "", problem.New(problem.InvalidParams, "host: the certificate is for %s, and not for %s", firstFive(names), host)
	}
	return host, nil
}

// endings are how many days before the end of a certificate that was brought people are told, the latest last.
var endings = []int{30, 14, 3, 1}

// nextEnding returns when people are next to be told of the end of a certificate that was brought; zero: never.
func (e *Enhanced) nextEnding() time.Time {
	if e == nil || e.Leaf == nil || !e.uploaded() || e.Leaf.Told >= len(endings) {
		return time.Time{}
	}
	return e.Leaf.NotAfter.AddDate(0, 0, -endings[e.Leaf.Told])
}

// notifyEnding has people told of the end of a certificate that was brought, once for all days that have come.
func (c *change) notifyEnding() error {
	e, due := c.db.Enhanced, false
	for at := e.nextEnding(); !at.IsZero() && !at.After(c.now); at = e.nextEnding() {
		e.Leaf.Told++
		due = true
	}
	if !due {
		return nil
	}
	if err := c.audit("enhanced_certificate.ending", c.db.ID, map[string]string{"host": e.Host, "not_after": e.Leaf.NotAfter.Format(time.RFC3339)}); err != nil {
		return err
	}
	return c.outbox.Add(c.tx, outbox.Notice{Kind: outbox.EnhancedEnding, At: c.now, Space: c.db.Space, DatabaseID: c.db.ID, Database: c.db.Name,
		ExpiresAt: e.Leaf.NotAfter, Public: &outbox.Public{Host: e.Host, Issuer: e.Leaf.Issuer}})
}
