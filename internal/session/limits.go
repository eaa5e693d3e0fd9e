package session

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"pgmtls-proxy/internal/refusal"
)

// Clients beyond a limit that are told so before TLS, where telling costs no handshake but a socket for a moment. Those
// beyond that are closed without a word.
const (
	refusalsPerSecond, refusalsBurst                   = 100, 200
	refusalsPerPrefixPerSecond, refusalsPerPrefixBurst = 20, 50
)

// handshakeBuckets bound the handshakes of a second; nil is no bound. One network, a /24 or /48, gets half of them at most,
// so that it can't use up everybody's.
func handshakeBuckets(perSecond int) *buckets {
	if perSecond == 0 {
		return nil
	}
	half := max(perSecond/2, 1)
	return newBuckets(rate.Limit(perSecond), perSecond, rate.Limit(half), half)
}

// mayHandshake takes a token for a handshake. Strangers have a rate of their own, and take none of the others'.
func (c *connection) mayHandshake() error {
	tokens := c.server.admission.handshakeRate
	if tokens == nil || c.unlisted || tokens.take(c.addr) {
		return nil
	}
	return c.rateLimited("too many handshakes a second")
}

// rateLimited refuses a client at a limit: politely while that is cheap, else in silence. In direct TLS no answer in plaintext
// can be read.
func (c *connection) rateLimited(limit string) error {
	c.silent = c.opening.direct || !c.server.admission.refusalRate.take(c.addr)
	// The limit is for the log: a client learns none.
	return &refusal.Refusal{Reason: refusal.RateLimited, Cause: limitError(limit)}
}

// outOfDescriptors reports whether an error is a shortage of the proxy's own, or of its host, and says nothing about the database.
func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// limitError names a limit.
type limitError string

func (l limitError) Error() string { return string(l) }

// How long a connection may take until its session begins is the configuration's to say, with two bounds.
const (
	// unlistedTimeout is for addresses that no rule allows, and for the time in which the address is not known yet.
	unlistedTimeout = 10 * time.Second
	// maxPatience is how many unfinished connections may take longer than that: half of the room that there is for them. When
	// that many are slow, the other half still comes and goes in 10 s.
	maxPatience = 512
)

// setDeadline bounds the time since the accept.
func (c *connection) setDeadline(limit time.Duration) error {
	c.deadline = c.accepted.Add(min(limit, c.server.config.StartupTimeout))
	return c.conn.SetDeadline(c.deadline)
}

// extendDeadline gives a client that a rule allows the whole startup timeout, if not too many have that.
func (c *connection) extendDeadline() error {
	if c.unlisted || c.server.config.StartupTimeout <= unlistedTimeout || !c.server.admission.unfinished.bePatient(c) {
		return nil
	}
	return c.setDeadline(c.server.config.StartupTimeout)
}

// unfinished counts the open connections of each address that are no session yet. An IPv6 client has a /64 to choose
// addresses from, so that counts as one.
type unfinished struct {
	max int // 0: no bound

	mu        sync.Mutex
	addresses map[netip.Addr]int
	patience  int // connections that may take longer than unlistedTimeout
}

// enter counts a connection, unless there are as many as there may be.
func (u *unfinished) enter(c *connection) error {
	if u.max == 0 {
		return nil
	}
	addr := network64(c.addr)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.addresses[addr] >= u.max {
		return c.rateLimited("too many unfinished connections from this address")
	}
	u.addresses[addr]++
	c.unfinished = true
	return nil
}

// bePatient reports whether a connection may take its time.
func (u *unfinished) bePatient(c *connection) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.patience >= maxPatience {
		return false
	}
	u.patience++
	c.patient = true
	return true
}

// leave takes back what enter and bePatient have counted. The connection is a session now, or over.
func (u *unfinished) leave(c *connection) {
	if !c.unfinished && !c.patient {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.patient {
		c.patient = false
		u.patience--
	}
	if !c.unfinished {
		return
	}
	c.unfinished = false
	addr := network64(c.addr)
	if u.addresses[addr]--; u.addresses[addr] == 0 {
		delete(u.addresses, addr)
	}
}

// network64 is the first address of an IPv6 address's /64, and any other address itself.
func network64(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Masked().Addr()
}
