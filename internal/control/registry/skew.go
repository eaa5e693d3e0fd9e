package registry

import (
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/outbox"
)

const (
	skewNews  = 30 * time.Second // a difference to what is known that is worth a write
	skewMost  = 5 * time.Minute  // beyond it people are told
	skewAgain = 24 * time.Hour   // and again after this: what a proxy says of itself can't flood anybody
)

// clockOf returns what is known of a proxy's clock with a report that came now. A report without a time changes nothing.
func clockOf(had Clock, report api.Report, now time.Time) Clock {
	if year := report.Time.Year(); report.Time.IsZero() || year < 1970 || year > 9999 {
		return had
	}
	skew := report.Time.Sub(now).Truncate(time.Second)
	if had.Known && (skew-had.Skew).Abs() < skewNews {
		return had
	}
	return Clock{Known: true, Skew: skew, ToldAt: had.ToldAt}
}

// notifySkew has people told of a proxy whose clock is wrong.
func (c *change) notifySkew(proxy string, clock *Clock) error {
	if clock.Skew.Abs() <= skewMost || c.now.Sub(clock.ToldAt).Abs() < skewAgain {
		return nil
	}
	clock.ToldAt = c.now
	return c.outbox.Add(c.tx, outbox.Notice{Kind: outbox.ProxyClock, At: c.now, Space: c.db.Space, DatabaseID: c.db.ID, Database: c.db.Name,
		Proxy: proxy, Skew: clock.Skew})
}
