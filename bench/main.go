// Command bench measures pgmtls-proxy beside its peers and writes what it finds as tables and charts.
//
// Run it with "make bench", which builds the programs and installs the peers that the distribution has; QUICK=1 is a short
// run that shows that everything works. It starts PostgreSQL, a dummy database (package dummy) and every proxy (package
// peers), loads one proxy at a time (package load), reads what the proxy's processes used (package proc), and hands the
// figures to package report. All of it is on the loopback interface, bounded in number and time, and ends with the run.
//
// It is not part of the product, and no test of it: what is right is for the tests to say, this says how fast.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"pgmtls-proxy/bench/internal/dummy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures everything, or plays the dummy database for another bench.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := optionsFrom(args)
	if err != nil {
		return err
	}
	if o.dummy != "" {
		return playDatabase(ctx, o.dummy)
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

// parts are the measurements, in their order.
var parts = []func(context.Context, *bench) error{
	measureAlone, measureRSA, measureWithPostgres, measureIdle, measureGrowth, measureRemoval,
}

// playDatabase serves the dummy in a process of its own, so that neither its CPU time nor its descriptors are the clients'.
func playDatabase(ctx context.Context, dir string) error {
	listener, err := dummy.Listen(dir)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	return dummy.Serve(listener)
}
