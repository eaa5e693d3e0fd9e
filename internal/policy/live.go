package policy

import (
	"sync/atomic"
	"time"
)

// Live is the policy in force: one pointer with one writer, the [Reloader], and any number of readers.
type Live struct {
	snapshot atomic.Pointer[Snapshot]
	status   atomic.Pointer[Status]
}

// Current is the snapshot in force, nil while there has never been a good one.
func (l *Live) Current() *Snapshot { return l.snapshot.Load() }

// Status is what became of the last attempt to load.
type Status struct {
	CheckedAt time.Time // the last look at the directory
	Error     string    // why what is on disk is not in force; empty when it is
	FailedAt  time.Time // since when, without a break; zero when Error is empty
}

// Status reports on the last attempt to load the policy.
func (l *Live) Status() Status {
	if s := l.status.Load(); s != nil {
		return *s
	}
	return Status{}
}
