package registry

import (
	"context"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// EnableMTLS creates mutual TLS of a database: the space's authority if it has none, the database's server
// certificate, and a first client certificate. It may follow a destroy at once.
func (r *Registry) EnableMTLS(ctx context.Context, by audit.Actor, db string) (Database, error) {
	return r.change(ctx, by, db, func(c *change) error {
		if c.enabled() == nil {
			return problem.New(problem.Conflict, "database %s already has mutual TLS (%s)", c.db.Name, c.db.MTLS.Status)
		}
		if err := c.prepareServer(); err != nil {
			return err
		}
		c.db.ClientAuthOff = false
		c.db.MTLS = &MTLS{Status: Provisioning, EnabledBy: c.by.Name, Generation: c.newPolicy(), CreatedAt: c.now, UpdatedAt: c.now}
		c.adds = true
		if err := c.countIssue(); err != nil {
			return err
		}
		first, err := c.issue("", nil, "")
		if err != nil {
			return err
		}
		if err := c.audit("mtls.create", c.db.ID, nil); err != nil {
			return err
		}
		return c.audit("certificate.create", first.ID, map[string]string{"name": first.Name, "serial": first.Serial})
	})
}

// prepareServer gives a database what its first policy needs: the authorities of its space, and a server certificate that one of
// them has issued and that is not about to end.
func (c *change) prepareServer() error {
	a, err := c.active()
	if err != nil {
		return err
	}
	if err := c.syncTrust(); err != nil {
		return err
	}
	if c.db.Server == nil || c.db.trusts(c.db.Server.CA) == nil || c.serverDue() {
		if err := c.issueServer(a); err != nil {
			return err
		}
	}
	return nil
}

// DisableMTLS destroys mutual TLS of a database: from the next policy nobody is let in, all its client certificates
// are revoked, and its rules are gone. It is gone itself when every proxy has ended the sessions.
func (r *Registry) DisableMTLS(ctx context.Context, by audit.Actor, db string) (Database, error) {
	dropped, err := r.dropRevokedLeaves(ctx, db)
	if err != nil {
		return Database{}, err
	}
	return r.change(ctx, by, db, func(c *change) error {
		if c.db.MTLS == nil {
			return problem.New(problem.NotFound, "database %s has no mutual TLS", c.db.Name)
		}
		if c.db.MTLS.Status == Deprovisioning {
			return errUnchanged
		}
		var usable []*Certificate
		for i := range c.db.Certificates {
			if cert := &c.db.Certificates[i]; cert.Usable() {
				usable = append(usable, cert)
			}
		}
		if err := c.revoke(usable...); err != nil {
			return err
		}
		detail := map[string]string{"certificates": fmt.Sprint(len(usable)), "ip_rules": fmt.Sprint(len(c.db.Rules))}
		for _, cert := range c.db.Certificates {
			if cert.Status != Disabled && !dropped[cert.ID] {
				c.tx.Delete(keyLeaves + cert.ID)
			}
		}
		// They belonged to what is destroyed: who creates it again begins with a list of one certificate.
		c.db.Certificates, c.db.Rules = []Certificate{}, []Rule{}
		c.db.MTLS.Status, c.db.MTLS.Generation, c.db.MTLS.UpdatedAt = Deprovisioning, c.newPolicy(), c.now
		return c.audit("mtls.destroy", c.db.ID, detail)
	})
}

// dropRevokedLeaves deletes the texts and keys of revoked certificates, which nobody needs, ahead of the destruction of mutual
// TLS: there may be more of them than a transaction can delete. It returns their ids.
func (r *Registry) dropRevokedLeaves(ctx context.Context, nameOrID string) (dropped map[string]bool, err error) {
	db, err := r.Database(ctx, nameOrID)
	if err != nil || db.MTLS == nil || db.MTLS.Status == Deprovisioning {
		return nil, err
	}
	const page = 100 // deletes in one transaction
	dropped = make(map[string]bool)
	tx := new(store.Tx)
	for _, cert := range db.Certificates {
		if cert.Status != Disabling {
			continue
		}
		tx.Delete(keyLeaves + cert.ID)
		dropped[cert.ID] = true
		if tx.Operations() == page {
			if _, err := r.docs.Commit(ctx, tx); err != nil {
				return nil, err
			}
			tx = new(store.Tx)
		}
	}
	if tx.Operations() == 0 {
		return dropped, nil
	}
	_, err = r.docs.Commit(ctx, tx)
	return dropped, err
}

// serverDue reports whether the database's server certificate must be replaced: it ends soon, or is not valid yet.
func (c *change) serverDue() bool {
	s := c.db.Server
	return s.early(c.now) || !c.now.Before(s.NotAfter.Add(-c.renewServerBefore(s)))
}

// renewServerBefore is how long before its end a server certificate is replaced. One that an ending authority has cut
// short is replaced at the last third.
func (r *Registry) renewServerBefore(s *ServerLeaf) time.Duration {
	return min(r.lifetimes.ServerRenewBefore, s.NotAfter.Sub(s.NotBefore)/3)
}

// issueServer gives the database a new server certificate.
func (c *change) issueServer(a *Authority) error {
	ca, err := c.signerOf(a)
	if err != nil {
		return err
	}
	key, keyPEM, err := authority.GenerateKey()
	if err != nil {
		return err
	}
	issued, err := ca.IssueServer(authority.Request{CommonName: c.db.Name, Hosts: c.db.Hosts, PublicKey: key.Public(),
		NotBefore: c.now.Add(-backdate), NotAfter: c.now.Add(c.lifetimes.Server)})
	if err != nil {
		return issueError("the server certificate of "+c.db.Name, err)
	}
	if c.db.Server != nil {
		c.tx.Delete(keyLeaves + c.db.Server.ID)
	}
	c.db.Server = &ServerLeaf{ID: newID(), CA: a.ID, Hosts: c.db.Hosts, NotBefore: issued.NotBefore, NotAfter: issued.NotAfter}
	c.newPolicy()
	if err := c.putLeaf(c.db.Server.ID, issued.CertificatePEM, keyPEM); err != nil {
		return err
	}
	return c.audit("server_certificate.issue", c.db.Server.ID, map[string]string{"serial": issued.Serial, "ca": a.ID})
}
