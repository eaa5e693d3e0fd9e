package relay

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// window measures how busy a loop is: the share of time that it spends in batches, as far as the process has got
// processor time for it. A loop that others keep from running is not helped by a second one.
type window struct {
	begin, since moment // of the window; of what is not counted yet
	busy         time.Duration
	used         time.Duration // processor time of the process at the begin
	number       uint32        // of this window
	load         atomic.Int64  // of the last whole window, in per cent
	until        atomic.Int64  // its end, a moment
}

// windowLength is over how long a loop's load is measured.
const windowLength = 100 * time.Millisecond

// moment is a reading of the monotonic clock: the time since the process started. A loop takes one after each batch and one
// when it wakes.
type moment = time.Duration

var processStart = time.Now()

func now() moment { return time.Since(processStart) }

// open begins to count, after a sleep.
func (w *window) open(now moment) {
	if now-w.begin > 2*windowLength { // it has slept for long
		w.begin, w.busy, w.used = now, 0, processTime()
	}
	w.since = now
}

// pass counts up to now, the end of a batch, and reports whether the window is over and a new one has begun.
func (w *window) pass(now moment) bool {
	w.busy += now - w.since
	w.since = now
	length := now - w.begin
	if length < windowLength {
		return false
	}
	used := processTime()
	w.load.Store(int64(100 * min(w.busy, used-w.used) / length))
	w.until.Store(int64(now))
	w.begin, w.busy, w.used = now, 0, used
	w.number++
	return true
}

// processTime is the processor time that the process has used so far.
func processTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// recent is the load of the last window, in per cent; 0 if that is long ago. It may be called from any goroutine.
func (w *window) recent() int64 {
	if now()-moment(w.until.Load()) > 3*windowLength {
		return 0
	}
	return w.load.Load()
}
