package policysync

import (
	"context"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/retry"
)

// How reports are told.
const (
	postTimeout  = 10 * time.Second // one try
	firstPostGap = 100 * time.Millisecond
	lastPostGap  = 5 * time.Second
)

// reportQueue has the reports that were not taken yet. The latest replaces the one before it: what it says includes that.
// Only a drift would be lost so, since it is put right at once; it waits in a place of its own, and goes first.
type reportQueue struct {
	news chan struct{} // room for one

	mu     sync.Mutex
	drift  *api.Report
	latest *api.Report
}

func newReportQueue() *reportQueue { return &reportQueue{news: make(chan struct{}, 1)} }

func (m *reportQueue) put(report api.Report) {
	m.mu.Lock()
	m.latest = &report
	if report.Drift != "" {
		m.drift, m.latest = &report, nil
	}
	m.mu.Unlock()
	select {
	case m.news <- struct{}{}:
	default: // whoever is told looks at all of it
	}
}

// first is the report to tell next, nil if there is none.
func (m *reportQueue) first() *api.Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drift != nil {
		return m.drift
	}
	return m.latest
}

// delivered removes a report, unless another has replaced it.
func (m *reportQueue) delivered(report *api.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drift == report {
		m.drift = nil
	}
	if m.latest == report {
		m.latest = nil
	}
}

// post sends what is put into the queue, until ctx ends.
func (r *Syncer) post(ctx context.Context, mail *reportQueue) {
	gap := retry.Backoff{First: firstPostGap, Last: lastPostGap}
	complained := ""
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-mail.news:
		case <-timer.C:
		}
		for report := mail.first(); report != nil; report = mail.first() {
			err := r.sendReport(ctx, *report)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				if text := err.Error(); text != complained {
					complained = text
					r.Log.Warn().Int64("applied", report.Applied).Err(err).Msg("can't deliver the proxy's report; trying again")
				}
				timer.Reset(gap.Next())
				break
			}
			complained = ""
			gap.Reset()
			mail.delivered(report)
		}
	}
}

func (r *Syncer) sendReport(ctx context.Context, report api.Report) error {
	if r.Report == nil {
		return nil
	}
	if !report.Time.IsZero() { // the report may have waited
		report.Time, report.ReadAt = plausible(report.Time.Add(time.Since(report.ReadAt))), time.Time{}
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	return r.Report(ctx, report)
}
