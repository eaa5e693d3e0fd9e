package session

import (
	"context"
	"time"
)

// What a drain asks of the live sessions. Its steps are cmd/pgmtls-proxy's, and docs/lifecycle.md draws them.

// busy reports whether the session is inside of a query or a transaction. One whose login is not over is neither.
func (c *connection) busy() bool {
	switch c.stream.Status() {
	case 0:
		return false
	case 'I':
		return !c.stream.Idle()
	}
	return true
}

// Busy is the number of live sessions that are inside of a query or a transaction: those that lose something when they
// are ended now.
func (t *Table) Busy() int {
	n := 0
	for _, c := range t.list() {
		if c.busy() {
			n++
		}
	}
	return n
}

// ComingIn is the number of sessions that were accepted after the time and have asked nothing yet: their login is not over, or
// their first query is on its way. Who is told to go then never got what they came for.
func (t *Table) ComingIn(after time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for c := range t.sessions {
		if c.accepted.After(after) && (c.state() == Login || c.bytes.ToServer.Load() <= c.loginBytes) {
			n++
		}
	}
	return n
}

// CancelQueries cancels what live sessions have running at the database. It does not wait. A session that was told to
// stop before reads how its query has ended, and then why the session does.
func (s *Server) CancelQueries() {
	for _, c := range s.table.list() {
		if !c.stream.Idle() {
			go c.cancelEnding(context.Background())
		}
	}
}
