package session

import (
	"bytes"
	"crypto/x509"
	"net/netip"
	"strings"
	"sync"
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/tlsconf"
)

// Asked is what a connection asked the policy with, as far as it got.
type Asked struct {
	policy.Question
	ID         string
	Accepted   time.Time
	Generation string           // of the policy that it was judged by; empty if there was none
	Refused    *refusal.Refusal // how it ended; nil: it is live
	// ChainTooLong reports whether the client's certificates were too many bytes to be remembered.
	ChainTooLong bool
}

// Asked finds a connection by its id, among the live sessions and the last connections that were refused or ended and
// are in the log.
func (s *Server) Asked(id string) (Asked, bool) {
	for _, c := range s.table.list() {
		if c.id == id {
			asked := c.asked()
			asked.Chain = c.request().Chain
			asked.Generation = c.granted().Generation
			return asked, true
		}
	}
	return s.refusals.find(id)
}

// asked is what is known of a connection, but for its certificates and the policy, which its own goroutine may still
// change.
func (c *connection) asked() Asked {
	a := Asked{ID: c.id, Accepted: c.accepted}
	a.Addr = c.addr
	if c.tls != nil {
		a.ServerName = c.tls.ConnectionState().ServerName
	}
	if c.startup != nil {
		a.User, a.Database = c.startup.User, c.startup.Database
	}
	return a
}

// ChainOf is what a live session presented whose client certificate has the serial, as the log writes it. Nil if there
// is none.
func (s *Server) ChainOf(serial string) []*x509.Certificate {
	for _, c := range s.table.list() {
		if chain := c.request().Chain; len(chain) > 0 && tlsconf.FormatSerial(chain[0].SerialNumber) == serial {
			return chain
		}
	}
	return nil
}

// Room is whether there is room for one more session from an address, and the figures behind that. A maximum of 0 is
// no bound.
type Room struct {
	Draining                   bool
	Sessions, MaxSessions      int
	FromAddress, MaxPerAddress int
	Refused                    *refusal.Refusal // nil: there is
}

// Room asks what a new session would be asked.
func (s *Server) Room(addr netip.Addr) Room {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	return Room{
		Draining:      t.draining,
		Sessions:      len(t.sessions),
		MaxSessions:   t.max,
		FromAddress:   t.addresses[addr],
		MaxPerAddress: t.maxPerAddress,
		Refused:       t.room(addr),
	}
}

// Bounds of the memory for connections that are over: all of it takes 10 MB at most.
const (
	maxRefusals      = 1000
	maxRefusedChain  = 8 << 10 // bytes of certificates; real chains have 1 to 5 kB
	maxRefusedName   = 256     // bytes of each name. No user or host name that could be allowed is longer
	maxRefusedDetail = 512     // bytes
)

// refusals are the last connections that were refused, or ended by the proxy, and are in the log: what the log leaves out
// of a flood does not push them out either.
type refusals struct {
	mu   sync.Mutex
	ring []pastConnection
	next int // the oldest, once the ring is full
}

type pastConnection struct {
	asked Asked
	chain [][]byte // parsed again when it is asked for
}

// add remembers a connection.
func (r *refusals) add(c *connection, refused *refusal.Refusal) {
	past := pastConnection{asked: c.asked()}
	a := &past.asked
	if c.snap != nil {
		a.Generation = c.snap.Generation
	}
	a.User, a.Database, a.ServerName = short(a.User, maxRefusedName), short(a.Database, maxRefusedName), short(a.ServerName, maxRefusedName)
	a.Refused = &refusal.Refusal{
		Reason:  refused.Reason,
		Message: short(refused.Message, maxRefusedDetail),
		Detail:  short(refused.Detail, maxRefusedDetail),
		Hint:    short(refused.Hint, maxRefusedDetail),
	}
	chain, size := c.request().Chain, 0
	for _, cert := range chain {
		size += len(cert.Raw)
	}
	if a.ChainTooLong = size > maxRefusedChain; !a.ChainTooLong {
		for _, cert := range chain {
			past.chain = append(past.chain, bytes.Clone(cert.Raw))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < maxRefusals {
		r.ring = append(r.ring, past)
		return
	}
	r.ring[r.next] = past
	r.next = (r.next + 1) % maxRefusals
}

// short copies text, so that what it is cut from can go.
func short(text string, max int) string { return strings.Clone(text[:min(len(text), max)]) }

func (r *refusals) find(id string) (Asked, bool) {
	past, found := r.get(id)
	if !found {
		return Asked{}, false
	}
	for _, raw := range past.chain {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			break // impossible: it was parsed before
		}
		past.asked.Chain = append(past.asked.Chain, cert)
	}
	return past.asked, true
}

func (r *refusals) get(id string) (pastConnection, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, past := range r.ring {
		if past.asked.ID == id {
			return past, true
		}
	}
	return pastConnection{}, false
}
