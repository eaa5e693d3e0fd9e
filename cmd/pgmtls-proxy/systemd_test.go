package main

import (
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// told collects what a supervisor is sent.
type told struct {
	mu       sync.Mutex
	states   []string
	sessions string
}

func (t *told) supervisor(watchdog time.Duration) *supervisor {
	return &supervisor{
		send: func(state string) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.states = append(t.states, state)
		},
		status:   func() string { t.mu.Lock(); defer t.mu.Unlock(); return t.sessions },
		watchdog: watchdog,
		looked:   make(chan struct{}, 1),
	}
}

func (t *told) set(status string) { t.mu.Lock(); defer t.mu.Unlock(); t.sessions = status }

// since gives what came since it was last asked for, with the time of a reload replaced.
func (t *told) since() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := t.states
	t.states = nil
	for i, state := range states {
		if before, after, found := strings.Cut(state, "MONOTONIC_USEC="); found && strings.Trim(after, "0123456789") == "" && after != "" {
			states[i] = before + "MONOTONIC_USEC"
		}
	}
	return states
}

func (t *told) want(tb testing.TB, want ...string) {
	tb.Helper()
	synctest.Wait()
	if got := t.since(); !slices.Equal(got, want) {
		tb.Errorf("told %q, want %q", got, want)
	}
}

func TestStatusIsToldWhenItHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &told{sessions: "0 sessions"}
		s := told.supervisor(0)
		go s.watch(t.Context())
		s.ready()
		told.want(t, "READY=1\nSTATUS=0 sessions")
		<-time.After(statusEvery)
		told.want(t)
		told.set("1 sessions")
		<-time.After(statusEvery)
		told.want(t, "STATUS=1 sessions")
		s.stopping()
		told.want(t, "STOPPING=1")
	})
}

func TestWatchdogGetsSignsOfLifeTwiceAsOftenAsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &told{}
		go told.supervisor(3 * time.Second).watch(t.Context())
		<-time.After(1400 * time.Millisecond)
		told.want(t)
		<-time.After(100 * time.Millisecond)
		told.want(t, "WATCHDOG=1")
		<-time.After(3 * time.Second)
		told.want(t, "WATCHDOG=1", "WATCHDOG=1")
	})
}

func TestSupervisorThatIsNotThereIsToldNothing(t *testing.T) {
	s := &supervisor{status: func() string { t.Error("somebody asked for the status"); return "" }, watchdog: time.Second}
	s.ready()
	s.reloading()
	s.stopping()
	s.watch(t.Context()) // returns
}

// The reload is over with the look that comes after the signal, not with one that was under way.
func TestReloadIsOverWithTheLookThatItAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &told{}
		s := told.supervisor(0)
		signals, keeper := make(chan os.Signal, 1), make(chan os.Signal)
		go s.follow(t.Context(), signals, keeper)
		s.reloadEnded() // nobody asked for it
		told.want(t)

		signals <- syscall.SIGHUP
		told.want(t, "RELOADING=1\nMONOTONIC_USEC")
		s.reloadEnded() // the keeper was in the middle of one
		told.want(t)
		<-keeper
		told.want(t)
		s.reloadEnded()
		told.want(t, "READY=1")

		signals <- syscall.SIGHUP
		<-keeper
		signals <- syscall.SIGHUP // before the first is answered
		<-keeper
		s.reloadEnded()
		told.want(t, "RELOADING=1\nMONOTONIC_USEC", "RELOADING=1\nMONOTONIC_USEC", "READY=1")

		signals <- syscall.SIGHUP
		<-keeper
		<-time.After(reloadLimit)
		told.want(t, "RELOADING=1\nMONOTONIC_USEC", "READY=1")
	})
}
