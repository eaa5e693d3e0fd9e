package session

import (
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
)

// Effect is what a policy would do to the live sessions.
type Effect struct {
	Kept  int
	Ended []Ending // the oldest session first
}

// Ending is a session that a policy would end, with the grounds on which it lives now.
type Ending struct {
	Session
	Why *refusal.Refusal // what it would be refused for
}

// DryRun asks a snapshot about every live session as the sweep would, and ends none.
func (t *Table) DryRun(next *policy.Snapshot, now time.Time) Effect {
	var e Effect
	review := next.Reauthorizer(now)
	for _, c := range t.list() {
		if _, refused := review.Authorize(c.request(), c.granted()); refused != nil {
			e.Ended = append(e.Ended, Ending{c.show(), refused})
		} else {
			e.Kept++
		}
	}
	sortByAge(e.Ended, func(e Ending) time.Time { return e.Accepted })
	return e
}
