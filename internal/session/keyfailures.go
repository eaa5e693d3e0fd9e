package session

import (
	"hash/maphash"
	"net/netip"

	"golang.org/x/time/rate"

	"pgmtls-proxy/internal/pgwire"
)

// keyFailures counts CancelRequests with a wrong key by who sent them, in constant memory. Two senders in one bucket share its
// rate; which ones do, nobody can know from outside.
//
// A guess can hit a session of the sender's own address or certificate only, so nobody pays for what others guess: neither those
// of the same network nor, in TLS, those of the same address.
type keyFailures struct {
	addresses, certificates [prefixBuckets]*rate.Limiter
	seed                    maphash.Seed
}

func newKeyFailures() *keyFailures {
	k := &keyFailures{seed: maphash.MakeSeed()}
	for i := range prefixBuckets {
		k.addresses[i] = rate.NewLimiter(cancelKeyFailuresPerSecond, cancelKeyFailuresBurst)
		k.certificates[i] = rate.NewLimiter(cancelKeyFailuresPerSecond, cancelKeyFailuresBurst)
	}
	return k
}

// of is the bucket of a connection: that of its certificate if it has shown one, else that of its address (a /64 of IPv6).
func (k *keyFailures) of(c *connection) *rate.Limiter {
	if id := c.granted().Identity; c.tls != nil && id != nil {
		return k.certificates[maphash.Comparable(k.seed, id.Fingerprint)%prefixBuckets]
	}
	return k.addresses[maphash.Comparable[netip.Addr](k.seed, network64(c.addr))%prefixBuckets]
}

// ownerOf finds the session that a key belongs to, if the connection may cancel it.
func (s *Server) ownerOf(c *connection, key pgwire.Key) (owner *connection, denied string) {
	failures := s.admission.keyFailures.of(c)
	if failures.Tokens() < 1 {
		return nil, "too many wrong keys from this client"
	}
	owner = s.table.owner(key)
	switch {
	case owner == nil:
		denied = "no live session has this key"
	case owner.addr != c.addr && !sameCertificate(c.granted().Identity, owner.granted().Identity):
		denied = "the session with this key has another address"
	}
	if denied != "" {
		failures.Allow()
	}
	return owner, denied
}
