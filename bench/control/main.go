// Command control measures the control plane: how long a change takes until it is in force, alone and with a thousand
// databases beside it, and what the daemon needs for them.
//
// Run it with "make bench-control", which builds the programs; QUICK=1 is a short run that shows that everything works. It
// starts the real daemon with its own etcd, real proxies, a real agent, and one process that stands in for the other
// proxies (package standin). It asks the API as any client does, and writes what it finds as a table and as JSON (package
// report). All of it is on this machine, bounded in number and time, and ends with the run.
//
// The proxy's own speed is measured by the bench beside this one.
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
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench/control:", err)
		os.Exit(1)
	}
}

// run measures everything, or plays the stand-ins for another bench.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := optionsFrom(args)
	if err != nil {
		return err
	}
	if o.standIn != "" {
		return playProxies(ctx, o.standIn)
	}
	b, err := newBench(o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, part := range parts {
		if err := part(ctx, b); err != nil {
			return err
		}
	}
	return b.finish()
}

// parts are the measurements, in their order: each builds on what the one before has left.
var parts = []func(context.Context, *bench) error{
	measureOne, measureAgent, register, measureRest, measureMany, measureRestart, measureColdStart,
}
