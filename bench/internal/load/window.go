package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"pgmtls-proxy/bench/internal/stats"
)

// Window is the time in which workers are watched. What they do before and after does not count.
type Window struct {
	Warmup, Length time.Duration
	// Edge is called at both ends of the time that counts, for what somebody else measures. It may be nil.
	Edge func() error
}

// Recorder counts what one worker does within the window. Only its worker may use it while that runs.
type Recorder struct {
	Latency stats.Histogram
	Bytes   int64

	open *atomic.Bool
}

// Done counts an operation that began at the time.
func (r *Recorder) Done(began time.Time) {
	if r.open.Load() {
		r.Latency.Record(time.Since(began))
	}
}

// Moved counts bytes.
func (r *Recorder) Moved(n int) {
	if r.open.Load() {
		r.Bytes += int64(n)
	}
}

// Worker works until the context ends, which also breaks the connections that it has opened with it. It calls begin when it
// is set up. What it returns after the end of the context is not an error.
type Worker func(ctx context.Context, begin func(), r *Recorder) error

// Watch runs the workers and gives what each did in the window, and how long that was. It ends early when one fails.
func (w Window) Watch(ctx context.Context, workers ...Worker) ([]*Recorder, time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var open atomic.Bool
	var began, ended sync.WaitGroup
	recorders := make([]*Recorder, len(workers))
	for i, work := range workers {
		r := &Recorder{open: &open}
		recorders[i] = r
		began.Add(1)
		begin := sync.OnceFunc(began.Done)
		ended.Go(func() {
			defer begin()
			if err := work(ctx, begin, r); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	began.Wait()
	elapsed, err := w.open(ctx, &open)
	cancel(errors.New("the window is over"))
	ended.Wait()
	return recorders, elapsed, err
}

// open waits for the window, and lets the recorders count while it is open.
func (w Window) open(ctx context.Context, open *atomic.Bool) (time.Duration, error) {
	edge := w.Edge
	if edge == nil {
		edge = func() error { return nil }
	}
	if err := pause(ctx, w.Warmup); err != nil {
		return 0, err
	}
	if err := edge(); err != nil {
		return 0, err
	}
	start := time.Now()
	open.Store(true)
	err := pause(ctx, w.Length)
	open.Store(false)
	elapsed := time.Since(start)
	if err != nil {
		return 0, err
	}
	return elapsed, edge()
}

// pause waits, or gives the reason why the context has ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
