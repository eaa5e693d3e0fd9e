package registry

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// identity is the URI in every client certificate of a database. Its policy lets in no other: the space's authority
// signs for all databases of the space.
func identity(databaseID string) string { return "urn:pgmtls:database:" + databaseID }

// leafRecord is what the store keeps of a certificate besides the document: its chain, and its key, sealed.
type leafRecord struct {
	Certificate string `json:"certificate"`
	Key         []byte `json:"key,omitempty"`
}

// NewCertificate is a client certificate to be issued.
type NewCertificate struct {
	Name    string // lower-case letters, digits and dashes; empty: one is made
	Request []byte // a certificate request, whose maker keeps the key; empty: a key is made
}

// CertificateFiles are what a client needs, in PEM.
type CertificateFiles struct {
	CertificatePEM string // with the intermediate that issued it
	KeyPEM         string // PKCS #8; empty when the client made its own
	RootsPEM       string // what it may trust the server by
}

// CreateCertificate issues a client certificate. It is ready when every proxy trusts its authority, which is at once
// unless that is new.
func (r *Registry) CreateCertificate(ctx context.Context, by audit.Actor, db string, n NewCertificate) (Certificate, error) {
	var key crypto.PublicKey
	if n.Name != "" {
		if err := checkName("certificate", n.Name); err != nil {
			return Certificate{}, err
		}
	}
	if len(n.Request) > 0 {
		var err error
		if key, err = authority.ParseRequest(n.Request); err != nil {
			return Certificate{}, problem.New(problem.InvalidParams, "%s", err)
		}
	}
	var id string
	changed, err := r.change(ctx, by, db, func(c *change) error {
		if err := c.enabled(); err != nil {
			return err
		}
		c.adds = true
		if err := c.countIssue(); err != nil {
			return err
		}
		cert, err := c.issue(n.Name, key, "")
		if err != nil {
			return err
		}
		id = cert.ID
		return c.audit("certificate.create", id, map[string]string{"name": cert.Name, "serial": cert.Serial})
	})
	if err != nil {
		return Certificate{}, err
	}
	return *changed.certificate(id), nil
}

// issue issues a client certificate by the signing authority. Without a key one is made and kept, sealed.
func (c *change) issue(name string, key crypto.PublicKey, predecessor string) (*Certificate, error) {
	if n := c.db.usable(); n >= MaxCertificates {
		return nil, problem.New(problem.InvalidParams, "database %s has %d client certificates; delete an unused one", c.db.Name, n)
	}
	a, err := c.active()
	if err != nil {
		return nil, err
	}
	if c.adds {
		if err := c.roomToRevoke(a); err != nil {
			return nil, err
		}
	}
	if err := c.syncTrust(); err != nil {
		return nil, err
	}
	ca, err := c.signerOf(a)
	if err != nil {
		return nil, err
	}
	cert := Certificate{ID: newID(), Name: name, CA: a.ID, Status: Pending, Generation: c.db.trusts(a.ID).Generation,
		CreatedAt: c.now, UpdatedAt: c.now, Predecessor: predecessor, OwnKey: key != nil}
	if cert.Name == "" {
		cert.Name = certificateName(c.db, cert.ID)
	}
	var keyPEM []byte
	if key == nil {
		made, text, err := authority.GenerateKey()
		if err != nil {
			return nil, err
		}
		key, keyPEM = made.Public(), text
	}
	issued, err := ca.IssueClient(authority.Request{CommonName: cert.Name, URIs: []string{identity(c.db.ID)}, PublicKey: key,
		NotBefore: c.now.Add(-backdate), NotAfter: c.now.AddDate(0, c.lifetimes.ClientMonths, 0)})
	if err != nil {
		return nil, issueError("a client certificate of "+c.db.Name, err)
	}
	cert.Serial, cert.ExpiresAt = issued.Serial, issued.NotAfter
	if err := c.putLeaf(cert.ID, issued.CertificatePEM, keyPEM); err != nil {
		return nil, err
	}
	c.db.Certificates = append(c.db.Certificates, cert)
	return &c.db.Certificates[len(c.db.Certificates)-1], nil
}

// certificateName is the name of a certificate that is given none.
func certificateName(db *Database, id string) string {
	return db.Name[:min(len(db.Name), 50)] + "-" + id[:8]
}

// putLeaf adds a certificate's texts to the transaction, the key sealed.
func (c *change) putLeaf(id string, certificatePEM, keyPEM []byte) error {
	record := leafRecord{Certificate: string(certificatePEM)}
	if keyPEM != nil {
		record.Key = c.docs.Ring.Seal(keyLeaves+id, keyPEM)
	}
	return docstore.Put(c.tx, keyLeaves+id, record)
}

// leaf reads a certificate's texts, the key opened.
func (r *Registry) leaf(ctx context.Context, id string) (certificatePEM string, keyPEM []byte, err error) {
	record, _, err := docstore.Get[leafRecord](ctx, r.docs.Store, keyLeaves+id)
	if err != nil {
		return "", nil, err
	}
	if record.Key != nil {
		if keyPEM, err = r.docs.Ring.Open(keyLeaves+id, record.Key); err != nil {
			return "", nil, fmt.Errorf("open the key of certificate %s: %w", id, err)
		}
	}
	return record.Certificate, keyPEM, nil
}

// enabled refuses what needs mutual TLS.
func (c *change) enabled() error {
	if c.db.MTLS == nil || c.db.MTLS.Status == Deprovisioning {
		return problem.New(problem.NotFound, "database %s has no mutual TLS; create it first", c.db.Name)
	}
	return nil
}

// certificate finds a client certificate by its id.
func (db *Database) certificate(id string) *Certificate {
	if i := slices.IndexFunc(db.Certificates, func(c Certificate) bool { return c.ID == id }); i >= 0 {
		return &db.Certificates[i]
	}
	return nil
}

// usable counts the client certificates that are let in.
func (db *Database) usable() (n int) {
	for _, c := range db.Certificates {
		if c.Usable() {
			n++
		}
	}
	return n
}

func noCertificate(db, id string) error {
	return problem.New(problem.NotFound, "database %s has no client certificate %s", db, problem.Quote(id))
}

// DeleteCertificate revokes a client certificate, now or after a while. Its sessions end when the proxies know it, and
// it is disabled when all say that they have ended.
func (r *Registry) DeleteCertificate(ctx context.Context, by audit.Actor, db, id string, after time.Duration) (Certificate, error) {
	if after < 0 || after > 366*24*time.Hour {
		return Certificate{}, problem.New(problem.InvalidParams, "after %s is not possible; use 0s to 8784h (366 days)", after)
	}
	return r.changeCertificate(ctx, by, db, id, func(c *change, cert *Certificate) error {
		if !cert.Usable() {
			return errUnchanged
		}
		if after > 0 {
			cert.DisableAt, cert.UpdatedAt = c.now.Add(after), c.now
			return c.audit("certificate.schedule", id, map[string]string{"serial": cert.Serial, "disable_at": cert.DisableAt.Format(time.RFC3339)})
		}
		return errors.Join(c.revoke(cert), c.audit("certificate.delete", id, map[string]string{"serial": cert.Serial}))
	})
}

// KeepCertificate takes back a delete that is still to come.
func (r *Registry) KeepCertificate(ctx context.Context, by audit.Actor, db, id string) (Certificate, error) {
	return r.changeCertificate(ctx, by, db, id, func(c *change, cert *Certificate) error {
		switch {
		case !cert.Usable():
			return problem.New(problem.Conflict, "certificate %s is %s and can't be reinstated; create a new one", id, cert.Status)
		case cert.DisableAt.IsZero():
			return errUnchanged
		}
		cert.DisableAt, cert.UpdatedAt = time.Time{}, c.now
		return c.audit("certificate.keep", id, map[string]string{"serial": cert.Serial})
	})
}

func (r *Registry) changeCertificate(ctx context.Context, by audit.Actor, db, id string, f func(*change, *Certificate) error) (Certificate, error) {
	changed, err := r.change(ctx, by, db, func(c *change) error {
		cert := c.db.certificate(id)
		if cert == nil {
			return noCertificate(c.db.Name, id)
		}
		return f(c, cert)
	})
	if err != nil {
		return Certificate{}, err
	}
	return *changed.certificate(id), nil
}

// CertificateFiles returns what a client needs. There is nothing to be had of a certificate that is disabled.
func (r *Registry) CertificateFiles(ctx context.Context, nameOrID, id string) (CertificateFiles, error) {
	db, err := r.Database(ctx, nameOrID)
	if err != nil {
		return CertificateFiles{}, err
	}
	cert := db.certificate(id)
	if cert == nil || cert.Status == Disabled {
		return CertificateFiles{}, noCertificate(db.Name, id)
	}
	text, keyPEM, err := r.leaf(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return CertificateFiles{}, noCertificate(db.Name, id)
	}
	if err != nil {
		return CertificateFiles{}, err
	}
	presented, err := authority.ClientChain([]byte(text))
	if err != nil {
		return CertificateFiles{}, fmt.Errorf("read the certificate %s in the store: %w", id, err)
	}
	roots, err := r.Chain(ctx, db.Space)
	return CertificateFiles{CertificatePEM: string(presented), KeyPEM: string(keyPEM), RootsPEM: roots}, err
}
