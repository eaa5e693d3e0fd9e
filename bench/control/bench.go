package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pgmtls-proxy/bench/control/internal/report"
	"pgmtls-proxy/bench/internal/proc"
)

// bench is one run.
type bench struct {
	options
	out     io.Writer
	started time.Time
	dir     string // for everything that the run makes; short, since sockets are in it

	daemon   *proc.Process
	log      int // how many logs there are of the daemon
	standIns *proc.Process
	others   []*proc.Process // real proxies and agents
	clients  *clients

	found report.Results
}

func newBench(o options, out io.Writer) (_ *bench, err error) {
	b := &bench{options: o, out: out, started: time.Now()}
	if err := raiseFiles(); err != nil {
		return nil, err
	}
	// Not os.TempDir: the path of a unix socket has 107 bytes at most.
	if b.dir, err = os.MkdirTemp("/tmp", "pgbench."); err != nil {
		return nil, err
	}
	for _, dir := range []string{b.dataDir(), b.policies(), b.sockets(), filepath.Join(b.dir, "log")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	b.found = report.Results{
		Date:    b.started,
		Machine: describe(b.dir),
		Settings: report.Settings{Quick: o.quick, Changes: o.changes, Databases: o.databases, Proxies: o.proxies, Rate: o.rate,
			Window: o.window, Rest: o.rest, Poll: pollAlone, PollMany: pollMany, Tokens: tokens},
	}
	return b, nil
}

// raiseFiles raises the limit on open files as far as it goes, for the children too, which Go does not by itself.
func raiseFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit on open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit on open files: %w", err)
	}
	return nil
}

// say prints a line with the time since the start. The run goes on when nobody reads it: its results are files.
func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.out, "%6s  %s\n", time.Since(b.started).Truncate(time.Second), fmt.Sprintf(format, args...))
}

// finish writes the results.
func (b *bench) finish() error {
	if err := b.found.Write(b.results); err != nil {
		return err
	}
	_, err := fmt.Fprintf(b.out, "%s\nThe results are in %s.\n", b.found.Goals(), filepath.Join(b.results, report.Markdown))
	return err
}

// close ends what the run has started and removes what it has made.
func (b *bench) close() error {
	err := b.stopAll()
	return errors.Join(err, os.RemoveAll(b.dir))
}

// stopAll ends every process, the daemon first.
func (b *bench) stopAll() error {
	processes := append([]*proc.Process{b.daemon, b.standIns}, b.others...)
	b.daemon, b.standIns, b.others = nil, nil, nil
	var errs []error
	for _, p := range processes {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	return errors.Join(errs...)
}

// patience bounds everything that is waited for and that is not measured to fail.
const patience = 2 * time.Minute

// until asks again and again, with pauses, until the answer is yes.
func until(ctx context.Context, pause time.Duration, what string, so func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %s: %s", patience, what))
	defer cancel()
	for {
		if yes, err := so(ctx); yes || err != nil {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// wait waits, or gives the reason why the context has ended.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
