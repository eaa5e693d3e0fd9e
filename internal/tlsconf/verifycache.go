package tlsconf

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// verifiedChain is what a presented chain was found to be: good, by these chains to a CA, at the moments from begin to the
// identity's Until. Revocation is not part of it.
type verifiedChain struct {
	identity *Identity
	chains   [][]*x509.Certificate
	begin    time.Time
}

// maxVerified bounds a cache. A space has tens of client certificates.
const maxVerified = 8192

// cache remembers chains that were found good, by what was presented. It belongs to one set of CAs, so nothing in it can be
// overtaken by a change of them; and it is asked only after the handshake has proved the leaf's key. Refusals are not
// remembered: a stranger could fill it. The zero value is ready.
type cache struct {
	mu      sync.Mutex
	entries map[[sha256.Size]byte]*verifiedChain
}

// Inherit takes over what another trust has found, if both have the same CAs: when a certificate is revoked, thousands of
// sessions are asked for again, and only revocation has changed. It is called before t is in use.
func (t *ClientVerifier) Inherit(from *ClientVerifier) {
	if t != nil && from != nil && slices.EqualFunc(t.cas, from.cas, (*x509.Certificate).Equal) {
		t.cache = from.cache
	}
}

// keyOf is a digest of a presented chain.
func keyOf(chain []*x509.Certificate) [sha256.Size]byte {
	hash := sha256.New()
	var length [8]byte
	for _, cert := range chain {
		binary.BigEndian.PutUint64(length[:], uint64(len(cert.Raw)))
		hash.Write(length[:])
		hash.Write(cert.Raw)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// at is the entry for a key that holds at a moment, nil if there is none.
func (c *cache) at(key [sha256.Size]byte, now time.Time) *verifiedChain {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.entries[key]
	if v == nil || now.Before(v.begin) || now.After(v.identity.Until) {
		return nil
	}
	return v
}

// add remembers a chain. A full cache begins anew: whoever fills it has a CA that issues thousands of certificates, and
// pays with one verification each.
func (c *cache) add(key [sha256.Size]byte, v *verifiedChain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= maxVerified {
		c.entries = make(map[[sha256.Size]byte]*verifiedChain)
	}
	c.entries[key] = v
}

// newVerifiedChain makes the entry of a chain that was found good. It holds while every certificate in every one of the found
// chains does: with fewer of them the search might end elsewhere.
func newVerifiedChain(identity *Identity, chains [][]*x509.Certificate) *verifiedChain {
	v := &verifiedChain{identity: identity, chains: chains}
	identity.Until = identity.NotAfter
	for _, chain := range chains {
		for _, cert := range chain {
			if cert.NotBefore.After(v.begin) {
				v.begin = cert.NotBefore
			}
			if cert.NotAfter.Before(identity.Until) {
				identity.Until = cert.NotAfter
			}
		}
	}
	return v
}
