package acme

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/google/uuid"
	acmez "github.com/mholt/acmez/v3/acme"

	"pgmtls-proxy/internal/control/store"
)

// download reads the certificate, and keeps it if it is what was ordered.
func (m *Manager) download(ctx context.Context, a *authority, account acmez.Account, cert *Certificate, o *order) (outcome, error) {
	texts, err := a.client.chains(ctx, account, o.Certificate)
	if err != nil {
		return outcome{}, err
	}
	key, keyPEM, err := m.sealedKey(ctx, keyOrderKeys+cert.ID)
	if err != nil {
		return outcome{}, err
	}
	now := m.now()
	var chains [][]*x509.Certificate
	var wrong error
	for _, text := range texts {
		chain, err := parseChain(text)
		if err == nil {
			err = checkChain(chain, key, o.Names, now)
		}
		if err != nil {
			wrong = err
			continue
		}
		chains = append(chains, chain)
	}
	if len(chains) == 0 {
		p := newProblem(BadChain, "the certificate from %s can't be served: %s", a.Name, wrong)
		p.Spent = true
		return outcome{}, p
	}
	chain := choose(chains, m.options.PreferredRoot, m.options.Roots)
	leaf, err := newLeaf(chain[0], o)
	if err != nil {
		p := newProblem(BadChain, "the certificate from %s: %s", a.Name, err)
		p.Spent = true
		return outcome{}, p
	}
	return m.keep(ctx, cert, o, leaf, encodeChain(chain), keyPEM, now)
}

func newLeaf(cert *x509.Certificate, o *order) (*Leaf, error) {
	ari, err := acmez.ARIUniqueIdentifier(cert)
	if err != nil {
		return nil, err
	}
	return &Leaf{ID: uuid.NewString(), CA: o.CA, Profile: o.Profile, Names: o.Names, Issuer: clean(cert.Issuer.CommonName),
		Serial: fmt.Sprintf("%x", cert.SerialNumber), NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), ARI: ari}, nil
}

// keep writes a new leaf in the place of the old one. The old one's files stay until the next: proxies may not have
// taken the new one yet.
func (m *Manager) keep(ctx context.Context, cert *Certificate, o *order, leaf *Leaf, chainPEM, keyPEM []byte, now time.Time) (outcome, error) {
	tx := new(store.Tx).Delete(keyOrderKeys + cert.ID)
	record := leafRecord{Chain: string(chainPEM), Key: m.docs.Ring.Seal(keyLeaves+leaf.ID, keyPEM)}
	if err := put(tx, keyLeaves+leaf.ID, 0, record); err != nil {
		return outcome{}, err
	}
	kind, changed := EventIssued, false
	if cert.Leaf != nil {
		kind = EventRenewed
		if cert.Previous != "" && (cert.Revoke == nil || cert.Revoke.ID != cert.Previous) {
			tx.Delete(keyLeaves + cert.Previous)
		}
		cert.Previous = cert.Leaf.ID
		if cert.Compromised {
			cert.Revoke, cert.RevokeNow = cert.Leaf, false
		}
		changed = cert.Leaf.CA == leaf.CA && cert.Leaf.Issuer != leaf.Issuer
	}
	cert.Leaf, cert.RenewNow, cert.Compromised, cert.NoReplace, cert.Warned = leaf, false, false, false, notWarned
	cert.Failures, cert.Tried, cert.CA, cert.NotBefore = 0, 0, "", time.Time{}
	cert.progress(Issued, now)
	o.Phase = phaseCleaning
	m.log.Info().Str("certificate", cert.ID).Strs("names", cert.Names).Str("ca", o.CA).Time("not_after", leaf.NotAfter).Msg("public certificate issued")
	if changed {
		if err := m.record(tx, Event{Kind: EventChain, At: now, Certificate: *cert, CA: o.CA}); err != nil {
			return outcome{}, err
		}
	}
	return m.commit(ctx, tx, cert, o, &Event{Kind: kind, At: now, Certificate: *cert, CA: o.CA, Took: now.Sub(o.StartedAt)})
}
