package policysync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/policyformat/policytest"
)

// told keeps what a route reports.
type told struct {
	mu      sync.Mutex
	reports []api.Report
	refuse  error // instead of taking one
	tries   int
}

func (l *told) take(_ context.Context, r api.Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries++
	if l.refuse != nil {
		return l.refuse
	}
	l.reports = append(l.reports, r)
	return nil
}

func (l *told) all() []api.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]api.Report(nil), l.reports...)
}

func (l *told) last() api.Report {
	all := l.all()
	if len(all) == 0 {
		return api.Report{}
	}
	return all[len(all)-1]
}

// until waits for a report that fits.
func (l *told) until(t *testing.T, what string, fits func(api.Report) bool) api.Report {
	t.Helper()
	var found api.Report
	eventually.OK(t, patience, func() error {
		for _, r := range l.all() {
			if fits(r) {
				found = r
				return nil
			}
		}
		return fmt.Errorf("no report is %s: %+v", what, l.all())
	})
	return found
}

// travel runs a route until the end of the test, or until it is stopped.
func travel(t *testing.T, r *Syncer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the route ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestARouteKeepsARealProxyAtTheNewest(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), nil)
	s, l := policytest.NewSpace(t), &told{}
	r := &Syncer{Publisher: p.courier(), Report: l.take, Log: zerolog.Nop(), ObserveEvery: 50 * time.Millisecond}
	travel(t, r)
	for generation := int64(1); generation <= 30; generation++ {
		r.Offer(s.Policy(t, edition{Generation: generation}))
	}
	r.Offer(s.Policy(t, edition{Generation: 3})) // late
	l.until(t, "of generation 30 in force", func(r api.Report) bool { return r.InForce == 30 && r.Applied == 30 && r.OnDisk == 30 })

	edited := filepath.Join(p.Dir, "edited")
	must.OK(t, os.WriteFile(edited, []byte(policyformat.Header(database, 30)+"{}"), 0o644))
	must.OK(t, os.Rename(edited, filepath.Join(p.Dir, api.PolicyFile))) // in one step: the route looks every 50 ms
	l.until(t, "of a drift", func(r api.Report) bool { return strings.Contains(r.Drift, "differs from what was published") })
	eventually.OK(t, patience, func() error {
		if last := l.last(); last.Drift != "" || last.InForce != 30 {
			return fmt.Errorf("the last report is %+v", last)
		}
		return nil
	})

	p.stop()
	l.until(t, "of a proxy that is down", func(r api.Report) bool { return strings.Contains(r.Error, "connect") })
}

func BenchmarkOfferUntilItIsInPlace(b *testing.B) {
	s := policytest.NewSpace(b)
	r := &Syncer{Publisher: &Publisher{Database: database, Dir: filepath.Join(b.TempDir(), "policy")}, Log: zerolog.Nop()}
	r.Publisher.fetch = func(context.Context) (*status, error) { return nil, errors.New("nobody is there") }
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Run(ctx) // its end is ours
	}()
	defer func() { cancel(); <-ended }()
	path := filepath.Join(r.Publisher.Dir, api.PolicyFile)
	policies := make([]api.Policy, 0, 16)
	for i := range b.N {
		policies = append(policies, s.Policy(b, edition{Generation: int64(i) + 1}))
	}
	b.ResetTimer()
	for _, p := range policies {
		r.Offer(p)
		for {
			text, err := os.ReadFile(path)
			if _, generation, _ := policyformat.ParseHeader(text); err == nil && generation == p.Generation {
				break
			}
		}
	}
}
