package registry

import (
	"time"

	"pgmtls-proxy/internal/control/problem"
)

// What takes away has to fit into its transaction whatever came before. A revocation writes the database's document and its
// own list. So nothing is added any more, and nothing issued, when the two would take seven tenths of a transaction; the
// rest is left for revoking and deleting.
//
// See docs/decisions/0020-room-to-revoke.md for why these are the shares.
const (
	maxGrowingDocument = 300 << 10 // bytes of a database's document up to which something may be added to it
	maxIssuingList     = 8000      // entries of a database's list of an authority up to which it is issued certificates
)

// MaxIssuesPerDay is how many client certificates are issued for a database in one day of UTC. Those that the control plane
// issues itself, because others end, do not count.
const MaxIssuesPerDay = 200

// Issues counts the client certificates that were issued in a day.
type Issues struct {
	Day   string `json:"day"` // of UTC, such as 2026-11-27
	Count int    `json:"count"`
}

// countIssue counts a client certificate that somebody asks for, and refuses one too many.
func (c *change) countIssue() error {
	day := c.now.UTC().Format(time.DateOnly)
	if c.db.Issues == nil || c.db.Issues.Day != day {
		c.db.Issues = &Issues{Day: day}
	}
	if c.db.Issues.Count >= MaxIssuesPerDay {
		return problem.New(problem.Conflict, "database %s was issued %d client certificates today, the daily limit; try again after 00:00 UTC, or let clients share certificates or keep them longer", c.db.Name, MaxIssuesPerDay)
	}
	c.db.Issues.Count++
	return nil
}

// roomToRevoke refuses to issue a certificate of an authority whose list of the database could soon not take the revocations
// of those that the database has.
func (c *change) roomToRevoke(a *Authority) error {
	t := c.db.trusts(a.ID)
	if t == nil || t.Revoked < maxIssuingList {
		return nil
	}
	return problem.New(problem.Conflict, "database %s has %d revoked certificates that have not expired, and the rest of its list is reserved for revocations; rotate the authority of space %s: its successor starts with an empty list", c.db.Name, t.Revoked, c.db.Space)
}

// roomToDelete refuses a change that adds something to a document which is so large that deleting from it could fail.
func (c *change) roomToDelete(size int) error {
	if !c.adds || size <= maxGrowingDocument {
		return nil
	}
	return problem.New(problem.Conflict, "database %s has too many changes waiting for its proxies, so nothing can be added (deleting and revoking still work); find the proxy that is away with: pgmtls proxies %s", c.db.Name, c.db.Name)
}
