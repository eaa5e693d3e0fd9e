package policy

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/config"
)

// How soon a change is looked at.
const (
	quiet        = 50 * time.Millisecond  // without another event, after a file was renamed into place, removed or chmodded
	quietInPlace = 150 * time.Millisecond // the same after a file was written in place
	quietLimit   = 500 * time.Millisecond // after the first event, however many follow
	signalGap    = 200 * time.Millisecond // between two looks that signals ask for

	slowInterval = 10 * time.Second       // between two looks that nothing asks for
	pollInterval = 500 * time.Millisecond // the same where the system tells of no changes
)

// Watcher looks at a policy directory whenever it may have changed, and now and then without a reason: an event can be
// lost, and on network file systems there are none. Its fields are set before Run.
type Watcher struct {
	Dir      string
	Interval time.Duration // between two looks that nothing asks for; 0: 10 s

	// Load takes what a look found, changed or not: files, or an error that says why they are not to be
	// used. It is called from Run's goroutine, one call at a time.
	Load func(ctx context.Context, files *Files, err error)
	Log  zerolog.Logger
}

// Run looks once at its start and then until the context is done, whose cause it returns. A value from reload asks for
// a look at once; a storm of them is answered five times a second.
func (w *Watcher) Run(ctx context.Context, reload <-chan os.Signal) error {
	l := &looker{Watcher: w}
	notify, err := fsnotify.NewWatcher()
	if err == nil {
		defer func() { _ = notify.Close() }() // it was only read
		l.notify, l.events, l.faults = notify, notify.Events, notify.Errors
	} else {
		l.poll(err)
	}
	l.observe(ctx)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case _, ok := <-reload:
			if !ok {
				reload = nil
				continue
			}
			l.schedule(time.Until(l.looked.Add(signalGap)))
		case event, ok := <-l.events:
			if !ok {
				l.events = nil
				continue
			}
			l.happened(event)
		case err, ok := <-l.faults:
			if !ok {
				l.faults = nil
				continue
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				w.Log.Warn().Err(err).Msg("watching the policy directory")
			}
			l.schedule(quiet)
		case <-l.timer():
			l.observe(ctx)
		}
	}
}

// looker is the state of a run. One goroutine owns it.
type looker struct {
	*Watcher
	notify *fsnotify.Watcher // nil where there is none
	events <-chan fsnotify.Event
	faults <-chan error

	polls    bool            // no notification: look often
	names    map[string]bool // paths whose change matters
	looked   time.Time       // end of the last look
	first    time.Time       // when the look that is due was first asked for; zero when none is
	due      time.Time
	waiting  *time.Timer
	deadline time.Time // that waiting is set to
}

// happened takes one event. An event of a file that the policy has no use for, such as an editor's, asks for nothing.
func (l *looker) happened(event fsnotify.Event) {
	switch {
	case !l.names[event.Name]:
	case event.Has(fsnotify.Write):
		l.schedule(quietInPlace)
	default:
		l.schedule(quiet)
	}
}

// schedule makes a look due in a while. Asked again, the while starts anew, up to quietLimit after the first time.
func (l *looker) schedule(in time.Duration) {
	now := time.Now()
	if l.first.IsZero() {
		l.first = now
	}
	l.due = now.Add(max(in, 0))
	if limit := l.first.Add(quietLimit); l.due.After(limit) {
		l.due = limit
	}
}

// timer fires when the next look is due.
func (l *looker) timer() <-chan time.Time {
	due := l.due
	if l.first.IsZero() {
		due = l.looked.Add(l.interval())
	}
	if l.waiting == nil {
		l.waiting = time.NewTimer(time.Until(due))
	} else if due != l.deadline {
		l.waiting.Reset(time.Until(due))
	}
	l.deadline = due
	return l.waiting.C
}

func (l *looker) interval() time.Duration {
	switch {
	case l.polls:
		return pollInterval
	case l.Interval > 0:
		return l.Interval
	}
	return slowInterval
}

// observe reads the directory and hands it on. The watches are set before the reading, so that no change after it is missed;
// when the reading shows files that were not watched, it is done again.
func (l *looker) observe(ctx context.Context) {
	l.first = time.Time{}
	l.watch(nil)
	v, err := readView(ctx, l.Dir)
	for tries := 0; err == nil && l.watch(v.files.Policy) && tries < 3; tries++ {
		v, err = readView(ctx, l.Dir)
	}
	if ctx.Err() != nil {
		return
	}
	var files *Files
	if err == nil {
		files, err = v.result()
	}
	l.Load(ctx, files, err)
	l.looked = time.Now()
}

// watch sets the watches for the directory and for the files of a policy, and reports whether that has set one on
// something that was not watched. Without a policy it keeps those that are there. A watch on a path at which
// there is now another directory is set on that one.
func (l *looker) watch(policy *config.Policy) (grown bool) {
	if l.notify == nil {
		return false
	}
	names := map[string]bool{}
	addWatchPaths(filepath.Join(l.Dir, policyName), names)
	addWatchPaths(filepath.Join(l.Dir, dataLink), names)
	if policy == nil {
		maps.Copy(names, l.names)
	} else {
		for _, ref := range references(policy) {
			path := filepath.Join(l.Dir, ref.Path)
			addWatchPaths(path, names)
			addWatchPaths(filepath.Join(filepath.Dir(path), dataLink), names)
		}
	}
	dirs := map[string]bool{}
	for name := range names {
		grown = grown || !l.names[name]
		dirs[filepath.Dir(name)] = true
	}
	l.names = names
	for dir := range dirs {
		if err := l.notify.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.poll(err)
		}
	}
	for _, dir := range l.notify.WatchList() {
		if !dirs[dir] {
			_ = l.notify.Remove(dir) // an error: the directory has gone, and the watch with it
		}
	}
	return grown
}

// poll goes over to looking often, and says so once.
func (l *looker) poll(err error) {
	if l.polls {
		return
	}
	l.polls = true
	l.Log.Warn().Err(err).Stringer("interval", pollInterval).
		Msg("the system reports no changes in the policy directory, so it is polled. On Linux, raise fs.inotify.max_user_instances and max_user_watches")
}
