package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/sdnotify"
)

// statusEvery is how often the supervisor is told a status that has changed. It bounds how stale what systemctl shows is.
const statusEvery = 10 * time.Second

// reloadLimit is when a reload is over for the supervisor, whatever became of it. The look at the policy is due after half a
// second at most, and takes as long as reading the files does.
const reloadLimit = 5 * time.Second

// maxStatus bounds a part of the status that comes from a file, in bytes.
const maxStatus = 300

// supervisor tells systemd, or whoever started the process with NOTIFY_SOCKET, how the process is (sd_notify(3)). Where
// there is nobody to tell, it is silent. Its methods are safe for concurrent use.
type supervisor struct {
	notifier *sdnotify.Notifier // beneath send; nil: there is nobody, or a test
	send     func(state string) // does not wait; nil: there is nobody
	status   func() string      // one line; it takes the locks that a healthy process gives
	watchdog time.Duration      // how often a sign of life is due; 0: never
	looked   chan struct{}      // a look at the policy has ended

	mu   sync.Mutex
	told string // the last status
}

// newSupervisor finds out from the environment whom to tell.
func newSupervisor(getenv func(string) string, status func() string, log zerolog.Logger) *supervisor {
	s := &supervisor{status: status, looked: make(chan struct{}, 1)}
	s.notifier = sdnotify.New(getenv, func(err error) {
		log.Warn().Err(err).Msg("could not notify the service manager")
	})
	if s.notifier == nil {
		return s
	}
	s.send = s.notifier.Send
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn().Err(err).Msg("could not read the service manager's watchdog settings")
	}
	s.watchdog = watchdog
	return s
}

// notify sends states with the status behind them.
func (s *supervisor) notify(states ...string) {
	if s.send == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if status := s.status(); status != s.told {
		s.told = status
		states = append(states, "STATUS="+status)
	}
	if len(states) > 0 {
		s.send(strings.Join(states, "\n"))
	}
}

// close waits a moment until the supervisor has been told everything.
func (s *supervisor) close() { s.notifier.Close(flushLimit) }

func (s *supervisor) ready()    { s.notify(daemon.SdNotifyReady) }
func (s *supervisor) stopping() { s.notify(daemon.SdNotifyStopping) }

// reloading has the time at which the reload began, as Type=notify-reload wants it.
func (s *supervisor) reloading() {
	s.notify(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// reloadEnded is called when a look at the policy has ended, however it has.
func (s *supervisor) reloadEnded() {
	select {
	case s.looked <- struct{}{}:
	default:
	}
}

// watch sends the status when it has changed, and signs of life twice as often as they are due, until the context is done.
// A sign needs the status, and so comes from a process whose table of sessions is not stuck.
func (s *supervisor) watch(ctx context.Context) {
	if s.send == nil {
		return
	}
	every, sign := statusEvery, []string(nil)
	if s.watchdog > 0 {
		every, sign = min(every, s.watchdog/2), []string{daemon.SdNotifyWatchdog}
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.notify(sign...)
		case <-ctx.Done():
			return
		}
	}
}

// follow hands the signals that ask for a reload on to the policy's keeper, and tells of its begin and end. The keeper takes a
// signal between two looks, so that the next look that ends is not older than the signal. A look that ends before its
// signal's taker has noticed is missed; then reloadLimit is the end.
func (s *supervisor) follow(ctx context.Context, signals <-chan os.Signal, keeper chan<- os.Signal) {
	var limit <-chan time.Time // nil: nothing is being reloaded
	for {
		select {
		case signal := <-signals:
			s.reloading()
			select {
			case keeper <- signal:
			case <-ctx.Done():
				return
			}
			select {
			case <-s.looked: // of a look before the signal
			default:
			}
			limit = time.After(reloadLimit)
			continue
		case <-s.looked:
			if limit == nil {
				continue // nobody asked for that look
			}
		case <-limit:
		case <-ctx.Done():
			return
		}
		limit = nil
		s.ready()
	}
}

// statusLine is what systemctl shows of the proxy.
func (p *proxy) statusLine() string {
	sessions := p.sessions.Table().Len()
	if p.ending.Load() {
		return fmt.Sprintf("draining; %d sessions left", sessions)
	}
	snapshot, last := p.live.Current(), p.live.Status()
	wrong := safetext.Escape(last.Error, maxStatus)
	switch {
	case snapshot == nil:
		return "no policy in force, every connection is refused: " + wrong
	case wrong != "":
		wrong = "; the policy on disk is refused: " + wrong
	}
	return fmt.Sprintf("%d sessions; policy generation %s%s", sessions, strconv.Quote(safetext.Escape(snapshot.Generation, maxStatus)), wrong)
}
