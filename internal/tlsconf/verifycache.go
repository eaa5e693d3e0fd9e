package tlsconf

import (
	"bytes"
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

// Bounds of a cache. A space has tens of client certificates, and a client sends the same intermediates every time.
const (
	maxVerifiedLeaves  = 4096
	maxVariantsPerLeaf = 4       // sets of intermediates that one leaf came with
	maxVerifiedSize    = 8 << 10 // bytes of the certificates of an entry; larger ones are verified each time
)

// cache remembers chains that were found good, by the leaf and the intermediates that took part in the search. It belongs to
// one set of CAs, so nothing in it can be overtaken by a change of them; and it is asked only after the handshake has proved
// the leaf's key. Refusals are not remembered: a stranger could fill it. The zero value is ready.
//
// Its memory is bounded in bytes: what else a client sends with its leaf is neither kept nor part of the key, and one leaf
// has a few entries at most, so that the holder of a single certificate can't fill the cache with chains of its making.
type cache struct {
	mu     sync.Mutex
	leaves map[digest]*verifiedLeaf
}

type digest = [sha256.Size]byte

// verifiedLeaf has the entries of one leaf.
type verifiedLeaf struct {
	variants []variant // at most maxVariantsPerLeaf
	next     int       // the oldest, once they are that many
}

type variant struct {
	intermediates digest // of those that took part in the search; zero: none
	chain         *verifiedChain
}

// cacheKey is what was asked: may this leaf come in, given these intermediates, in this order?
type cacheKey struct{ leaf, intermediates digest }

// Inherit takes over what another verifier has found, if both have the same CAs: when a certificate is revoked, thousands of
// sessions are asked for again, and only revocation has changed. It is called before t is in use.
func (t *ClientVerifier) Inherit(from *ClientVerifier) {
	if t != nil && from != nil && slices.EqualFunc(t.cas, from.cas, (*x509.Certificate).Equal) {
		t.cache = from.cache
	}
}

func newCacheKey(leaf *x509.Certificate, intermediates []*x509.Certificate) cacheKey {
	key := cacheKey{leaf: sha256.Sum256(leaf.Raw)}
	if len(intermediates) == 0 {
		return key
	}
	hash := sha256.New()
	var length [8]byte
	for _, cert := range intermediates {
		binary.BigEndian.PutUint64(length[:], uint64(len(cert.Raw)))
		hash.Write(length[:])
		hash.Write(cert.Raw)
	}
	hash.Sum(key.intermediates[:0])
	return key
}

// at returns the entry for a key that holds at a moment, nil if there is none.
func (c *cache) at(key cacheKey, now time.Time) *verifiedChain {
	c.mu.Lock()
	defer c.mu.Unlock()
	leaf := c.leaves[key.leaf]
	if leaf == nil {
		return nil
	}
	for i := range leaf.variants {
		v := leaf.variants[i].chain
		if leaf.variants[i].intermediates == key.intermediates && !now.Before(v.begin) && !now.After(v.identity.Until) {
			return v
		}
	}
	return nil
}

// add remembers a chain. A leaf that comes with ever other intermediates loses its oldest entry. A full cache begins anew: it
// takes a CA that issues thousands of certificates to fill it, and each of them then costs one verification.
func (c *cache) add(key cacheKey, v *verifiedChain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	leaf := c.leaves[key.leaf]
	if leaf == nil {
		if c.leaves == nil || len(c.leaves) >= maxVerifiedLeaves {
			c.leaves = make(map[digest]*verifiedLeaf)
		}
		leaf = new(verifiedLeaf)
		c.leaves[key.leaf] = leaf
	}
	if i := slices.IndexFunc(leaf.variants, func(v variant) bool { return v.intermediates == key.intermediates }); i >= 0 {
		leaf.variants[i].chain = v
		return
	}
	if len(leaf.variants) < maxVariantsPerLeaf {
		leaf.variants = append(leaf.variants, variant{key.intermediates, v})
		return
	}
	leaf.variants[leaf.next] = variant{key.intermediates, v}
	leaf.next = (leaf.next + 1) % maxVariantsPerLeaf
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

// detach replaces the certificates that the client sent by copies of their own. The parsed ones are parts of the client's
// Certificate message, and one of them would keep all of it in memory. It reports whether the result is worth remembering,
// which certificates of unusual size are not.
func detach(chains [][]*x509.Certificate, presented []*x509.Certificate) bool {
	copies := make(map[*x509.Certificate]*x509.Certificate, len(presented))
	size := 0
	for _, chain := range chains {
		for i, cert := range chain {
			if !slices.Contains(presented, cert) {
				continue // a CA of the policy
			}
			own := copies[cert]
			if own == nil {
				var err error
				if own, err = x509.ParseCertificate(bytes.Clone(cert.Raw)); err != nil {
					return false // impossible: it was parsed before
				}
				copies[cert] = own
				size += len(cert.Raw)
			}
			chain[i] = own
		}
	}
	return size <= maxVerifiedSize
}
