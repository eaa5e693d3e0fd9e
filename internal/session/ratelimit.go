package session

import (
	"hash/maphash"
	"net/netip"

	"golang.org/x/time/rate"
)

// Denied addresses that are answered rather than dropped. An answer costs a handshake, about a millisecond of CPU:
// at these rates strangers take a few per cent of one processor.
const (
	unlistedPerSecond, unlistedBurst   = 50, 100
	perPrefixPerSecond, perPrefixBurst = 2, 20
)

// prefixBuckets is how many buckets share all prefixes. Two prefixes in one bucket share its rate, which only costs
// them an answer; which ones do, nobody can know from outside.
const prefixBuckets = 4096

// buckets are token buckets: one for all addresses and one for each /24 or /48, in constant memory.
type buckets struct {
	all      *rate.Limiter
	prefixes [prefixBuckets]*rate.Limiter
	seed     maphash.Seed
}

func newBuckets(perSecond rate.Limit, burst int, prefixPerSecond rate.Limit, prefixBurst int) *buckets {
	b := &buckets{all: rate.NewLimiter(perSecond, burst), seed: maphash.MakeSeed()}
	for i := range b.prefixes {
		b.prefixes[i] = rate.NewLimiter(prefixPerSecond, prefixBurst)
	}
	return b
}

// take takes a token, and reports whether there was one.
func (b *buckets) take(addr netip.Addr) bool {
	return b.of(addr).Allow() && b.all.Allow()
}

// empty reports whether there is no token, and takes none.
func (b *buckets) empty(addr netip.Addr) bool {
	return b.of(addr).Tokens() < 1 || b.all.Tokens() < 1
}

func (b *buckets) of(addr netip.Addr) *rate.Limiter {
	bits := 24
	if addr.Is6() {
		bits = 48
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		prefix = netip.Prefix{} // no address: all of them share a bucket
	}
	return b.prefixes[maphash.Comparable(b.seed, prefix)%prefixBuckets]
}
