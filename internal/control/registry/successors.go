package registry

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/outbox"
)

// successorAt returns when a certificate is to get a successor; zero: not, since it has one or is to be disabled.
func (r *Registry) successorAt(cert Certificate, issuer AuthorityState, now time.Time) time.Time {
	switch {
	case !cert.Usable() || cert.Successor != "" || !cert.DisableAt.IsZero():
		return time.Time{}
	case issuer == RetiringCA && cert.CreatedAt.Before(now):
		return cert.CreatedAt
	case issuer == RetiringCA, cert.early(now):
		return now
	}
	// One that an ending authority has cut short is replaced at its last third.
	return cert.ExpiresAt.Add(-min(r.lifetimes.ClientRenewBefore, cert.ExpiresAt.Sub(cert.CreatedAt)/3))
}

// makeSuccessors issues the certificates that replace those that end soon, or whose authority is being replaced, and
// has people told. A client that made its own key goes on with it.
func (c *change) makeSuccessors(state map[string]AuthorityState) (made int, err error) {
	var ids []string
	for _, cert := range c.db.Certificates {
		if at := c.successorAt(cert, state[cert.CA], c.now); !at.IsZero() && !at.After(c.now) {
			ids = append(ids, cert.ID)
		}
	}
	ids = ids[:min(len(ids), manyDue, max(0, MaxCertificates-c.db.usable()))] // of a full list, the owner must delete some
	for _, id := range ids {
		if err := c.makeSuccessor(id); err != nil {
			return made, err
		}
		made++
	}
	return made, nil
}

func (c *change) makeSuccessor(id string) error {
	old := *c.db.certificate(id)
	var key crypto.PublicKey
	if old.OwnKey {
		var err error
		if key, err = c.publicKey(id); err != nil {
			return err
		}
	}
	made, err := c.issue(old.Name, key, id)
	if err != nil {
		return err
	}
	successor := *made
	replaced := c.db.certificate(id)
	replaced.Successor, replaced.UpdatedAt = successor.ID, c.now
	notice := outbox.Notice{Kind: outbox.CertificateSuccessor, At: c.now, Space: c.db.Space, DatabaseID: c.db.ID, Database: c.db.Name,
		Certificate: ofNotice(old), Successor: ofNotice(successor), ExpiresAt: old.ExpiresAt}
	return errors.Join(
		c.audit("certificate.renew", successor.ID, map[string]string{"predecessor": id, "serial": successor.Serial}),
		c.outbox.Add(c.tx, notice))
}

// ofNotice is what people are told of a certificate.
func ofNotice(c Certificate) *outbox.Certificate {
	return &outbox.Certificate{ID: c.ID, Name: c.Name, Serial: c.Serial, ExpiresAt: c.ExpiresAt, OwnKey: c.OwnKey}
}

// publicKey returns the key that a certificate is for.
func (c *change) publicKey(id string) (crypto.PublicKey, error) {
	text, _, err := c.leaf(c.ctx, id)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("certificate %s in the store is not PEM", id)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate %s in the store: %w", id, err)
	}
	return cert.PublicKey, nil
}
