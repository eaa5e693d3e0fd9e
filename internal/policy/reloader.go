package policy

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Reloader keeps a [Live] up to date with a policy directory. It is the one writer.
type Reloader struct {
	Dir     string
	Live    *Live
	Builder Builder
	Log     zerolog.Logger

	// OnApplied, OnUnchanged and OnRefused are told how each look at the directory ended. They may be nil. OnApplied comes right
	// behind the swap of the pointer, before anything is logged: what ends sessions stands behind nothing that tells.
	OnApplied   func(previous, next *Snapshot)
	OnUnchanged func()
	OnRefused   func(error)

	mu     sync.Mutex // Load before Run, and Run's watcher
	warned warnings
}

// Load looks at the directory once and puts what it finds in force, if it is good.
func (k *Reloader) Load(ctx context.Context) {
	files, err := readDir(ctx, k.Dir)
	k.receive(ctx, files, err)
}

// Run follows the directory until the context is done: changes of its files, a slow look at them all in case one was
// missed, and each reload signal. It gives the context's cause, or why it can't go on.
func (k *Reloader) Run(ctx context.Context, reload <-chan os.Signal) error {
	watcher := Watcher{Dir: k.Dir, Load: k.receive, Log: k.Log}
	return watcher.Run(ctx, reload)
}

// receive puts what was read in force, or keeps what is. The end of the context says nothing about the directory.
func (k *Reloader) receive(ctx context.Context, files *Files, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	previous := k.Live.Current()
	var next *Snapshot
	switch {
	case err != nil:
	case previous != nil && previous.Digest == files.Digest:
		k.keep(now)
		return
	default:
		next, err = k.Builder.Build(files, previous, now)
	}
	if err != nil {
		k.refuse(err, now)
		return
	}
	k.apply(next, previous, now)
}

func (k *Reloader) apply(next, previous *Snapshot, now time.Time) {
	k.Live.snapshot.Store(next)
	k.Live.status.Store(&Status{CheckedAt: now})
	if k.OnApplied != nil {
		k.OnApplied(previous, next)
	}
	event := k.Log.Info().Str("generation", next.Generation).Str("digest", next.Digest).
		Int("ip_rules", len(next.Rules.Rules())).Int("certificates", len(next.Certificates))
	if previous != nil {
		event.Str("previous_generation", previous.Generation)
	}
	event.Msg("policy in force")
	if len(next.Rules.Rules()) == 0 {
		k.Log.Warn().Msg("the policy has no IP rules: nobody can connect")
	}
	for _, problem := range next.LeftOut {
		k.Log.Error().Str("problem", problem.Error()).Msg("a server certificate of the policy is not served; the policy is in force without it")
	}
	k.warned.check(next, now, k.Log)
}

// keep is a look that found what is in force already. It ends a failure: the files are as they were.
func (k *Reloader) keep(now time.Time) {
	if last := k.Live.Status(); last.Error != "" {
		k.Log.Info().Msg("the policy on disk is the one in force again")
	}
	k.Live.status.Store(&Status{CheckedAt: now})
	k.warned.check(k.Live.Current(), now, k.Log)
	if k.OnUnchanged != nil {
		k.OnUnchanged()
	}
}

// refuse keeps the last good snapshot and says why. The same error is logged once, however often it is found.
func (k *Reloader) refuse(err error, now time.Time) {
	last := k.Live.Status()
	status := Status{CheckedAt: now, Error: err.Error(), FailedAt: last.FailedAt}
	if status.FailedAt.IsZero() {
		status.FailedAt = now
	}
	k.Live.status.Store(&status)
	if last.Error != status.Error {
		event := k.Log.Error().Err(err).Time("failing_since", status.FailedAt)
		if current := k.Live.Current(); current != nil {
			event.Str("generation_in_force", current.Generation).Msg("the policy on disk is refused; the last valid one stays in force")
		} else {
			event.Msg("the policy on disk is refused; none is in force, and every connection is refused")
		}
	}
	if k.OnRefused != nil {
		k.OnRefused(err)
	}
}

// Check reads and builds what a directory holds, as a keeper would at its start, and puts nothing in force.
func Check(ctx context.Context, dir string, builder Builder) (*Snapshot, error) {
	files, err := readDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	return builder.Build(files, nil, time.Now())
}
