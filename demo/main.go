// Demo shows pgmtls and pgmtls-proxy at work: it starts a real PostgreSQL, the control plane, and the proxy in front of
// the database. Then it types what their owner types into pgmtls, runs psql as users would, good ones and bad ones, prints
// what they see, and says after each step whether it is what it should be.
//
// Run it with "make demo". It then stays up, to be tried by hand; "make demo ONCE=1" ends by itself, with exit code
// 0 only if every step did what it should. All of it is on the loopback interface and made for this one run:
// nothing here is an example of how to keep keys. It imports the repository's test PostgreSQL; of the two programs it
// knows only what an operator does: the binaries, their files, what they print, and the proxy's admin address.
//
// To read it, begin with the list of steps in steps.go: each is a small function.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Everything that was started is stopped by run's own deferred calls, so a signal only ends the context.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	options, err := optionsFrom(ctx, os.Getenv)
	if err == nil {
		options.colour = isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == ""
		err = run(ctx, options, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run sets the stage, plays the steps, stays up if it is to, and stops everything that it started.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	d := &demo{options: o, show: &printer{out: out, colour: o.colour}}
	defer func() { err = errors.Join(err, d.tearDown()) }()
	if err := d.setUp(ctx); err != nil {
		return err
	}
	failed := d.play(ctx, steps)
	if ctx.Err() != nil {
		return context.Cause(ctx) // "interrupt signal received"
	}
	if !o.once {
		d.invite()
		if err := d.stayUp(ctx); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d steps failed", failed, len(steps))
	}
	return nil
}

// play runs the steps one after the other, also after one has failed, and counts those that have.
func (d *demo) play(ctx context.Context, steps []step) (failed int) {
	for i, step := range steps {
		d.show.heading("%d. %s", i+1, step.title)
		verdict, err := step.run(ctx, d)
		switch {
		case ctx.Err() != nil:
			return failed
		case err != nil:
			failed++
			d.show.bad("%v", err)
		default:
			d.show.good("%s", verdict)
		}
	}
	return failed
}

// stayUp returns when the user has had enough, or with an error when a program has ended.
func (d *demo) stayUp(ctx context.Context) error {
	select {
	case <-ctx.Done():
		d.show.line("")
		return nil
	case <-d.proxy.exited:
		return d.ended(d.proxy)
	case <-d.control.exited:
		return d.ended(d.control)
	}
}
