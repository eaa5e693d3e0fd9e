package main

import (
	"flag"
	"fmt"
	"regexp"
	"time"
)

// options are the arguments of the program.
type options struct {
	quick   bool
	rounds  int
	window  time.Duration
	idle    int            // sessions in the measurement of memory
	built   string         // the directory with the builds of the proxy
	results string         // the directory for results
	libpq   string         // the directory with a libpq that can begin with TLS; empty: there is none
	only    *regexp.Regexp // which scenarios to measure
	dummy   string         // play the dummy database in this directory, and nothing else
}

// Durations that do not follow from the options.
const (
	warmup = 300 * time.Millisecond
	// rest is longer than the two minutes after which Go's runtime collects garbage by itself.
	rest = 150 * time.Second
)

func optionsFrom(args []string) (options, error) {
	var o options
	only := ""
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "a short run: fewer clients and sessions")
	flags.IntVar(&o.rounds, "rounds", 0, "how often each figure is measured (4, quick: 1)")
	flags.DurationVar(&o.window, "window", 0, "how long each time (3s, quick: 1s)")
	flags.IntVar(&o.idle, "idle", 0, "sessions for the measurement of memory (4000, quick: 500)")
	flags.StringVar(&o.built, "built", ".cache/bench", "the directory with pgmtls-proxy and pgmtls-proxy-pair")
	flags.StringVar(&o.results, "results", "bench/results", "the directory for results")
	flags.StringVar(&o.libpq, "libpq", "", "the directory of a libpq of version 17 or later, which can begin with TLS")
	flags.StringVar(&only, "only", "", "a regular expression: which scenarios to measure")
	flags.StringVar(&o.dummy, "dummy", "", "only play the dummy database, with its socket in this directory")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("%q: there are no arguments without a flag", flags.Arg(0))
	}
	o.fillIn()
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return options{}, fmt.Errorf("-only: %w", err)
	}
	return o, nil
}

// fillIn gives the defaults, which differ for a quick run.
func (o *options) fillIn() {
	defaults := options{rounds: 4, window: 3 * time.Second, idle: 4000}
	if o.quick {
		defaults = options{rounds: 1, window: time.Second, idle: 500}
	}
	if o.rounds <= 0 {
		o.rounds = defaults.rounds
	}
	if o.window <= 0 {
		o.window = defaults.window
	}
	if o.idle <= 0 {
		o.idle = defaults.idle
	}
}

// clients are how many sessions are busy at once.
func (o *options) clients() []int {
	if o.quick {
		return []int{8}
	}
	return []int{1, 8, 32}
}
