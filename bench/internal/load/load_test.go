package load

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/bench/internal/dummy"
)

// target starts a dummy and gives the way to it, without TLS.
func target(t *testing.T) Target {
	t.Helper()
	dir := t.TempDir()
	listener, err := dummy.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go dummy.Serve(listener)
	return Target{Network: "unix", Address: dir + "/" + dummy.SocketName, User: "u", Database: "d"}
}

var short = Window{Warmup: 5 * time.Millisecond, Length: 50 * time.Millisecond}

func TestEveryKindOfWorkIsCounted(t *testing.T) {
	to := target(t)
	for name, c := range map[string]struct {
		worker Worker
		bulk   bool
	}{
		"simple":   {worker: to.Queries(Simple)},
		"prepared": {worker: to.Queries(Prepared)},
		"churn":    {worker: to.Churn()},
		"down":     {worker: to.Down(dummy.Down), bulk: true},
		"up":       {worker: to.Up(dummy.Up, dummy.Rows), bulk: true},
	} {
		edges := 0
		window := short
		window.Edge = func() error { edges++; return nil }
		recorders, elapsed, err := window.Watch(t.Context(), c.worker, c.worker)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if elapsed < window.Length || edges != 2 {
			t.Errorf("%s: the window was open for %v and had %d edges", name, elapsed, edges)
		}
		for _, r := range recorders {
			if c.bulk == (r.Bytes == 0) || c.bulk == (r.Latency.Count() > 0) {
				t.Errorf("%s: %d bytes, %d operations", name, r.Bytes, r.Latency.Count())
			}
		}
	}
}

func TestWhatHappensOutsideTheWindowDoesNotCount(t *testing.T) {
	worker := func(ctx context.Context, begin func(), r *Recorder) error {
		r.Done(time.Now())
		begin()
		<-ctx.Done()
		r.Moved(1)
		return ctx.Err()
	}
	recorders, _, err := short.Watch(t.Context(), worker)
	if err != nil || recorders[0].Latency.Count() != 0 || recorders[0].Bytes != 0 {
		t.Errorf("%d operations, %d bytes, %v", recorders[0].Latency.Count(), recorders[0].Bytes, err)
	}
}

func TestAWorkerThatFailsEndsTheWindow(t *testing.T) {
	broken := errors.New("broken")
	long := Window{Length: time.Hour}
	_, _, err := long.Watch(t.Context(), target(t).Queries(Simple), func(context.Context, func(), *Recorder) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
}

func TestAServerThatRefusesIsQuoted(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		server.Write([]byte("E\x00\x00\x00\x0bSFATAL\x00"))
	}()
	conn := newConn(client)
	if err := conn.untilReady(); err == nil || !strings.Contains(err.Error(), "FATAL") {
		t.Errorf("the error is %v", err)
	}
}

func TestACrowdGrowsAndLeaves(t *testing.T) {
	to := target(t)
	var crowd Crowd
	for _, size := range []int{3, 20, 20} {
		if err := crowd.Grow(t.Context(), to, size); err != nil {
			t.Fatal(err)
		}
		if len(crowd.conns) != size {
			t.Errorf("it has %d sessions, not %d", len(crowd.conns), size)
		}
	}
	if err := crowd.conns[19].Exchange([]byte{'S', 0, 0, 0, 4}); err != nil {
		t.Errorf("the last has no session: %v", err)
	}
	crowd.Leave()
	if err := crowd.Grow(t.Context(), to, 1); err != nil {
		t.Errorf("it can't grow again: %v", err)
	}
	crowd.Leave()
}
