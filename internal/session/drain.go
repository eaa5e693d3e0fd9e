package session

import (
	"context"
	"sync"
	"time"
)

// What a drain asks of the live sessions. Package drain has its steps.

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

// Busy returns the number of live sessions that are inside of a query or a transaction: those that lose something when
// they are ended now.
func (t *Table) Busy() int {
	n := 0
	for _, c := range t.list() {
		if c.busy() {
			n++
		}
	}
	return n
}

// StartingUp returns the number of sessions that were accepted after the time and have asked nothing yet: their login is not
// over, or their first query is on its way. A client that is told to go then never got what it came for.
func (t *Table) StartingUp(after time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for c, e := range t.sessions {
		if c.accepted.After(after) && (c.state() == Login || c.bytes.ToServer.Load() <= e.loginBytes) {
			n++
		}
	}
	return n
}

// CancelQueries cancels what live sessions have running at the database, a few at a time. It returns when each was tried, or
// soon after ctx is done. A session that was told to stop before reads how its query has ended, and then why the session does.
func (s *Server) CancelQueries(ctx context.Context) {
	due := make(chan *connection)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(due)
	for range cap(s.admission.ownCancels) {
		workers.Go(func() {
			for c := range due {
				c.cancelDraining(ctx)
			}
		})
	}
	for _, c := range s.table.list() {
		if c.stream.Idle() {
			continue
		}
		select {
		case due <- c:
		case <-ctx.Done():
			return
		}
	}
}

// cancelDraining is cancelEnding, and survives it.
func (c *connection) cancelDraining(ctx context.Context) {
	defer c.recoverPanic()
	c.cancelEnding(ctx)
}
