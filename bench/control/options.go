package main

import (
	"flag"
	"fmt"
	"time"
)

// options are the arguments of the program.
type options struct {
	quick     bool
	changes   int           // one after the other, with one proxy
	databases int           // registered for the measurement of many
	proxies   int           // of them, those with a real proxy
	rate      int           // changes a second
	window    time.Duration // how long
	rest      time.Duration // how long nothing is done
	built     string        // the directory with the programs
	results   string        // the directory for results
	standIn   string        // play the stand-ins of a run in this directory, and nothing else
}

func optionsFrom(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench/control", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "a short run: fewer databases and changes")
	flags.IntVar(&o.changes, "changes", 0, "changes one after the other (250, quick: 20)")
	flags.IntVar(&o.databases, "databases", 0, "databases at once (1000, quick: 50)")
	flags.IntVar(&o.proxies, "proxies", 0, "of them, those with a real proxy (16, quick: 3)")
	flags.IntVar(&o.rate, "rate", 50, "changes a second")
	flags.DurationVar(&o.window, "window", 0, "how long there are so many (30s, quick: 3s)")
	flags.DurationVar(&o.rest, "rest", 0, "how long nothing is done (30s, quick: 3s)")
	flags.StringVar(&o.built, "built", ".cache/bench", "the directory with pgmtls and pgmtls-proxy")
	flags.StringVar(&o.results, "results", "bench/results", "the directory for results")
	flags.StringVar(&o.standIn, "stand-in", "", "only play the stand-ins of the run in this directory")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("%q: there are no arguments without a flag", flags.Arg(0))
	}
	o.fillIn()
	if o.rate < 1 || o.proxies < 1 || o.databases <= o.proxies {
		return options{}, fmt.Errorf("%d databases, %d of them with a real proxy, and %d changes a second can't be measured", o.databases, o.proxies, o.rate)
	}
	return o, nil
}

// fillIn gives the defaults, which differ for a quick run.
func (o *options) fillIn() {
	defaults := options{changes: 250, databases: 1000, proxies: 16, window: 30 * time.Second, rest: 30 * time.Second}
	if o.quick {
		defaults = options{changes: 20, databases: 50, proxies: 3, window: 3 * time.Second, rest: 3 * time.Second}
	}
	for _, n := range []struct{ to, from *int }{
		{&o.changes, &defaults.changes}, {&o.databases, &defaults.databases}, {&o.proxies, &defaults.proxies},
	} {
		if *n.to <= 0 {
			*n.to = *n.from
		}
	}
	for _, d := range []struct{ to, from *time.Duration }{{&o.window, &defaults.window}, {&o.rest, &defaults.rest}} {
		if *d.to <= 0 {
			*d.to = *d.from
		}
	}
}
