package session

import (
	"crypto/subtle"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/safetext"
)

// Table holds the live sessions: those that the gate has let in, from before the backend is dialled to the end of
// their relay. Its methods are safe for concurrent use.
type Table struct {
	max, maxPerAddress int // 0: no bound

	mu        sync.Mutex
	sessions  map[*connection]*tableEntry
	addresses map[netip.Addr]int
	// keys finds a session by the process id of its backend, which is no secret. The backend may be gone and its
	// id taken again while the old session still says goodbye: the newer one has the entry.
	keys     map[uint32]*connection
	draining bool
	ended    traffic // of sessions that are over
	seen     seen
}

// tableEntry is what the table knows of a session, and nobody else does.
type tableEntry struct {
	key pgwire.Key // of the session's backend; zero until it has sent one
	// loginBytes is what the client had sent to the server, in bytes, when the key came, which is at the end of the login.
	loginBytes int64
}

type traffic struct{ toClient, toServer int64 }

func newTable(max, maxPerAddress int) *Table {
	return &Table{
		max:           max,
		maxPerAddress: maxPerAddress,
		sessions:      make(map[*connection]*tableEntry),
		addresses:     make(map[netip.Addr]int),
		keys:          make(map[uint32]*connection),
		seen:          newSeen(),
	}
}

// enter registers a session, or refuses it when there is no room.
func (t *Table) enter(c *connection) *refusal.Refusal {
	grant := c.granted()
	t.mu.Lock()
	defer t.mu.Unlock()
	if refused := t.room(c.addr); refused != nil {
		return refused
	}
	t.sessions[c] = &tableEntry{}
	t.addresses[c.addr]++
	t.seen.touch(grant, time.Now())
	return nil
}

// room refuses one more session from an address when there is no room for it. Called with mu held.
func (t *Table) room(addr netip.Addr) *refusal.Refusal {
	switch {
	case t.draining:
		return &refusal.Refusal{Reason: refusal.Draining}
	case t.max > 0 && len(t.sessions) >= t.max:
		return &refusal.Refusal{Reason: refusal.TooManySessions}
	case t.maxPerAddress > 0 && t.addresses[addr] >= t.maxPerAddress:
		return &refusal.Refusal{Reason: refusal.TooManySessionsFromAddress}
	}
	return nil
}

// leave takes a session out. One that never entered is ignored.
func (t *Table) leave(c *connection) {
	grant := c.granted()
	t.mu.Lock()
	defer t.mu.Unlock()
	e, entered := t.sessions[c]
	if !entered {
		return
	}
	delete(t.sessions, c)
	t.seen.touch(grant, time.Now())
	if t.addresses[c.addr]--; t.addresses[c.addr] == 0 {
		delete(t.addresses, c.addr)
	}
	if t.keys[e.key.PID] == c {
		delete(t.keys, e.key.PID)
	}
	t.ended.toClient += c.bytes.ToClient.Load()
	t.ended.toServer += c.bytes.ToServer.Load()
}

// learn remembers the cancel key that a session's backend has sent.
func (t *Table) learn(c *connection, key pgwire.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, entered := t.sessions[c]
	if !entered {
		return
	}
	if t.keys[e.key.PID] == c {
		delete(t.keys, e.key.PID) // a server that sends several keys fills no memory
	}
	e.key, e.loginBytes = key, c.bytes.ToServer.Load()
	t.keys[key.PID] = c
}

// keyOf returns the cancel key of a live session's backend, if it has sent one.
func (t *Table) keyOf(c *connection) (pgwire.Key, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, entered := t.sessions[c]
	if !entered || e.key.Secret == nil {
		return pgwire.Key{}, false
	}
	return e.key, true
}

// owner finds the live session that a cancel key belongs to.
func (t *Table) owner(key pgwire.Key) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, found := t.keys[key.PID]
	if !found || subtle.ConstantTimeCompare(t.sessions[c].key.Secret, key.Secret) != 1 {
		return nil
	}
	return c
}

// Drain makes the table refuse every new session.
func (t *Table) Drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
}

// Stop ends every live session at the moment that is given and tells its client why. It does not wait.
func (t *Table) Stop(when relay.When, why *refusal.Refusal) {
	for _, c := range t.list() {
		c.stop(when, why)
	}
}

// Abort ends every live session now. It does not wait.
func (t *Table) Abort() {
	for _, c := range t.list() {
		c.abort()
	}
}

// Len is the number of live sessions.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.sessions)
}

// shrink makes the maps as small as what is in them: a map keeps the room that it has once had.
func (t *Table) shrink() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions, t.addresses, t.keys = copied(t.sessions), copied(t.addresses), copied(t.keys)
}

// copied differs from [maps.Clone], whose result has all the room of the original.
func copied[K comparable, V any](m map[K]V) map[K]V {
	small := make(map[K]V, len(m))
	maps.Copy(small, m)
	return small
}

func (t *Table) list() []*connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*connection, 0, len(t.sessions))
	for c := range t.sessions {
		list = append(list, c)
	}
	return list
}

// Traffic is the plaintext, in bytes, that all sessions so far have moved, live ones included.
func (t *Table) Traffic() (toClient, toServer int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	toClient, toServer = t.ended.toClient, t.ended.toServer
	for c := range t.sessions {
		toClient += c.bytes.ToClient.Load()
		toServer += c.bytes.ToServer.Load()
	}
	return toClient, toServer
}

// State is where a live session stands, as far as the protocol shows it.
type State string

// The states. The last three are those of the last ReadyForQuery.
const (
	Login             State = "login"               // the backend is dialled, or asks for a password
	OutsideTx         State = "outside_transaction" // idle, or in a query outside of a transaction block
	InTransaction     State = "in_transaction"
	FailedTransaction State = "failed_transaction"
)

func (c *connection) state() State {
	switch c.stream.Status() {
	case 'I':
		return OutsideTx
	case 'T':
		return InTransaction
	case 'E':
		return FailedTransaction
	}
	return Login
}

// EachState calls f for every state with the number of live sessions in it.
func (t *Table) EachState(f func(state string, sessions int)) {
	counts := make(map[State]int)
	for _, c := range t.list() {
		counts[c.state()]++
	}
	for _, state := range []State{Login, OutsideTx, InTransaction, FailedTransaction} {
		f(string(state), counts[state])
	}
}

// Session is what the operator sees of a live session.
type Session struct {
	ID       string
	Addr     netip.Addr
	Via      netip.Addr // the balancer that announced Addr; invalid without one
	Accepted time.Time
	State    State
	User     string // cleaned, like Database: the client chose it
	Database string
	Grant    policy.Grant
	ToClient int64 // plaintext bytes so far
	ToServer int64
}

// Sessions lists the live sessions, the oldest first.
func (t *Table) Sessions() []Session {
	live := t.list()
	list := make([]Session, 0, len(live))
	for _, c := range live {
		list = append(list, c.show())
	}
	sortByAge(list, func(s Session) time.Time { return s.Accepted })
	return list
}

func (c *connection) show() Session {
	return Session{
		ID:       c.id,
		Addr:     c.addr,
		Via:      c.via,
		Accepted: c.accepted,
		State:    c.state(),
		User:     safetext.Escape(c.startup.User, maxField),
		Database: safetext.Escape(c.startup.Database, maxField),
		Grant:    c.granted(),
		ToClient: c.bytes.ToClient.Load(),
		ToServer: c.bytes.ToServer.Load(),
	}
}

func sortByAge[T any](list []T, accepted func(T) time.Time) {
	slices.SortFunc(list, func(a, b T) int { return accepted(a).Compare(accepted(b)) })
}
