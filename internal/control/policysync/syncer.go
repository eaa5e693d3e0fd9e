package policysync

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
)

// Syncer keeps one proxy at the newest policy that it was offered, and reports what the proxy says. The daemon runs one for
// each proxy beside it, the agent runs one. Its exported fields are set before the first call; its methods may be
// called concurrently, Run once.
type Syncer struct {
	Publisher *Publisher

	// Report sends a report to the control plane. Only the latest one counts, and one that fails is repeated, from 100 ms on to every 5 s,
	// until Report gives nil. Each try has 10 seconds. It is called from one goroutine. Nil: nobody is told.
	Report func(context.Context, api.Report) error

	// ObserveEvery is how often the proxy and its directory are looked at when nothing is to be delivered: for what
	// somebody has edited, for restarts, for who uses which certificate. 0: 10 s.
	ObserveEvery time.Duration

	Log zerolog.Logger // says itself of which database and proxy it is

	mu        sync.Mutex
	offered   *api.Policy // the newest; never changed
	digest    string      // its
	again     bool        // what is known is to be reported though it is no news
	interrupt context.CancelFunc
	wake      chan struct{} // room for one; nil before Run
}

// Offer passes a policy to the syncer; the caller must not change it afterwards. It never blocks. A newer one replaces what is still
// on its way, and is published at once. One that is older than the last is not delivered: whoever offers it does not
// know what the proxy has had, so that is reported again.
func (r *Syncer) Offer(p api.Policy) {
	if p.Database != r.Publisher.Database {
		r.Log.Error().Stringer("offered", p).Msg("a policy for another database was offered; not delivered")
		return
	}
	digest := policyformat.Digest(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.offered != nil && p.Generation < r.offered.Generation:
		r.again = true
	case r.offered != nil && p.Generation == r.offered.Generation && digest == r.digest:
		return
	default:
		r.offered, r.digest = &p, digest
		if r.interrupt != nil {
			r.interrupt()
		}
	}
	r.rouse()
}

// Repeat reports the proxy's state again although it may be unchanged, because the receiver of the reports may have lost them.
// It never blocks.
func (r *Syncer) Repeat() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again = true
	r.rouse()
}

// Answer answers a question about the proxy, and delivers nothing. See [Publisher.DryRun] and [Publisher.Report].
func (r *Syncer) Answer(ctx context.Context, q api.Question) api.Answer {
	answer := api.Answer{Kind: q.Kind}
	var err error
	switch q.Kind {
	case api.AskDryRun:
		var effect api.Effect
		if effect, err = r.Publisher.DryRun(ctx, q.Policy); err == nil {
			answer.Effect = &effect
		}
	case api.AskReport:
		var report api.Report
		if report, err = r.Publisher.Report(ctx); err == nil {
			answer.Report = &report
		}
	default:
		err = fmt.Errorf("this version does not know the question %.40q; upgrade it", q.Kind)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer
}

// Run delivers until ctx ends, and returns its cause. Nothing else ends it: failures are reported and tried again. When it
// returns, nothing that it has started goes on. A report that was not taken by then is lost; the next Run begins with
// a new one.
func (r *Syncer) Run(ctx context.Context) error {
	var posting sync.WaitGroup
	defer posting.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mail := newReportQueue()
	posting.Go(func() { r.post(ctx, mail) })

	wake := make(chan struct{}, 1)
	r.mu.Lock()
	r.wake = wake
	r.mu.Unlock()
	t := syncLoop{route: r, mail: mail, since: time.Now()}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(t.step(ctx)))
	}
}

// rouse makes Run look at what there is to do. The lock is held.
func (r *Syncer) rouse() {
	if r.wake == nil {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// orders are what a route was told from outside.
type orders struct {
	policy *api.Policy // nil: none was offered yet
	again  bool
}

// receive returns the orders, and a context that ends with the next offer of something new.
func (r *Syncer) receive(ctx context.Context) (context.Context, context.CancelFunc, orders) {
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	o := orders{r.offered, r.again}
	r.again, r.interrupt = false, cancel
	return ctx, cancel, o
}
