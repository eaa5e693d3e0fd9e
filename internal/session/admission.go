package session

import (
	"cmp"
	"net/netip"
	"runtime"
)

// admission holds the limits of a server, except for the places of its [Table]: what connections may take before they
// are sessions, and what cancels may take beside them. Nothing in it knows who may come in.
type admission struct {
	handshakeSlots handshakeSlots // of addresses that a rule allows
	// unlistedSlots are for the handshakes of addresses that no rule allows: one at a time, so that a burst of those
	// that are answered takes one processor and not all.
	unlistedSlots handshakeSlots
	handshakeRate *buckets     // nil: no bound
	unlistedRate  *buckets     // handshakes of addresses that no rule allows
	refusalRate   *buckets     // answers before TLS
	keyFailures   *keyFailures // CancelRequests with a wrong key
	unfinished    unfinished
	cancels       chan struct{} // CancelRequests of clients at the backend
	ownCancels    chan struct{} // cancels for sessions that are told to end
}

func newAdmission(config Config) *admission {
	handshakes := config.Handshakes
	if handshakes == 0 {
		handshakes = 2 * runtime.GOMAXPROCS(0)
	}
	return &admission{
		handshakeSlots: make(handshakeSlots, handshakes),
		unlistedSlots:  make(handshakeSlots, 1),
		handshakeRate:  handshakeBuckets(config.HandshakesPerSecond),
		unlistedRate:   newBuckets(unlistedPerSecond, unlistedBurst, perPrefixPerSecond, perPrefixBurst),
		refusalRate:    newBuckets(refusalsPerSecond, refusalsBurst, refusalsPerPrefixPerSecond, refusalsPerPrefixBurst),
		keyFailures:    newKeyFailures(),
		unfinished:     unfinished{max: config.UnfinishedPerAddress, addresses: make(map[netip.Addr]int)},
		cancels:        make(chan struct{}, cmp.Or(config.MaxCancels, MaxCancels)),
		ownCancels:     make(chan struct{}, cmp.Or(config.MaxOwnCancels, MaxOwnCancels)),
	}
}

// slots are those that a handshake of the connection has to wait for.
func (a *admission) slots(c *connection) handshakeSlots {
	if c.unlisted {
		return a.unlistedSlots
	}
	return a.handshakeSlots
}

// handshaking is the number of handshakes that compute at the moment.
func (a *admission) handshaking() int { return len(a.handshakeSlots) + len(a.unlistedSlots) }
