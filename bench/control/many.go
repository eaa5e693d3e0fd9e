package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"pgmtls-proxy/bench/control/internal/report"
	"pgmtls-proxy/internal/control/api"
)

const (
	// pollMany is how long each client waits between two questions when there are others.
	pollMany = 20 * time.Millisecond
	// registerers register databases at the same time.
	registerers = 8
	// ofReal: every fifth change is of a database with a real proxy, so that those are many enough to be told apart.
	ofReal = 5
)

// realNames and standInNames are the databases, by what they have in front of them.
func (b *bench) realNames() (names []string) {
	for i := range b.proxies {
		names = append(names, fmt.Sprintf("real-%02d", i))
	}
	return names
}

func (b *bench) standInNames() (names []string) {
	for i := range b.databases - b.proxies {
		names = append(names, fmt.Sprintf("db-%04d", i))
	}
	return names
}

// register registers all databases, and gives them mutual TLS.
func register(ctx context.Context, b *bench) error {
	b.say("register %d databases, %d with real proxies", b.databases, b.proxies)
	for _, name := range b.realNames() {
		if err := b.startProxy(ctx, name); err != nil {
			return err
		}
	}
	if err := b.startStandIns(ctx, b.standInNames()); err != nil {
		return err
	}
	began := time.Now()
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(registerers)
	for _, name := range append(b.realNames(), b.standInNames()...) {
		group.Go(func() error { return b.registered(inner, name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	b.found.Registered = report.Seconds(time.Since(began))
	err := b.operational(ctx)
	b.found.Operational = report.Seconds(time.Since(began))
	b.say("registered after %.1f s, operational after %.1f s", b.found.Registered, b.found.Operational)
	return err
}

// measureRest measures what the daemon does when nothing is asked of it.
func measureRest(ctx context.Context, b *bench) error {
	b.say("nothing for %s", b.options.rest)
	before, err := usageOf(b.daemon)
	if err != nil {
		return err
	}
	if err := wait(ctx, b.options.rest); err != nil {
		return err
	}
	after, err := usageOf(b.daemon)
	b.found.Rest = report.Rest{CPU: report.Seconds(after.cpu - before.cpu), Resident: report.MiB(after.resident), Peak: report.MiB(after.peak)}
	return err
}

// measureMany measures changes at a rate that does not wait for them, spread over all databases.
func measureMany(ctx context.Context, b *bench) error {
	n := int(b.window.Seconds() * float64(b.rate))
	b.say("%d changes a second for %s", b.rate, b.window)
	before, err := b.observe()
	if err != nil {
		return err
	}
	var counted counted
	var under sync.WaitGroup
	standIns, reals := b.standInNames(), b.realNames()
	rand.Shuffle(len(standIns), func(i, j int) { standIns[i], standIns[j] = standIns[j], standIns[i] })
	began := time.Now()
	for i := range n {
		at := began.Add(time.Duration(i) * time.Second / time.Duration(b.rate))
		if err := wait(ctx, time.Until(at)); err != nil {
			under.Wait()
			return err
		}
		under.Go(func() {
			if i%ofReal == 0 {
				_, err := b.createRule(ctx, reals[i/ofReal%len(reals)], i, pollMany)
				counted.add(&counted.real, time.Since(at), err)
				return
			}
			_, err := b.createRule(ctx, standIns[i%len(standIns)], i, pollMany)
			counted.add(&counted.standIns, time.Since(at), err)
		})
	}
	under.Wait()
	took := time.Since(began)
	after, err := b.observe()
	if err != nil {
		return err
	}
	b.found.Many = report.Many{
		Real: counted.real, StandIns: counted.standIns, Errors: len(counted.errors), Took: report.Seconds(took),
		CPU:         report.Seconds(after.daemon.cpu - before.daemon.cpu),
		ProxiesCPU:  report.Seconds(after.proxies - before.proxies),
		ClientsCPU:  report.Seconds(after.clients - before.clients),
		OthersCPU:   report.Seconds(max(0, after.busy-before.busy-after.own()+before.own())), // the two clocks differ a little
		Resident:    report.MiB(after.daemon.resident),
		Peak:        report.MiB(after.daemon.peak),
		StoreBefore: before.store,
		StoreAfter:  after.store,
	}
	if len(counted.errors) > 0 {
		b.found.Notes = append(b.found.Notes, fmt.Sprintf("the first error of %d: %v", len(counted.errors), counted.errors[0]))
	}
	return nil
}

// counted is what became of the changes.
type counted struct {
	mu             sync.Mutex
	real, standIns report.Latencies
	errors         []error
}

func (c *counted) add(to *report.Latencies, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errors = append(c.errors, err)
		return
	}
	to.Add(took)
}

// observed is what everybody has used up to a moment.
type observed struct {
	daemon           usage
	proxies, clients time.Duration
	busy             time.Duration // the machine
	store            report.Store
}

// own is what the run itself has used.
func (o observed) own() time.Duration { return o.daemon.cpu + o.proxies + o.clients }

func (b *bench) observe() (o observed, err error) {
	if o.daemon, err = usageOf(b.daemon); err != nil {
		return o, err
	}
	proxies, err := usageOf(append(b.others, b.standIns)...)
	if err != nil {
		return o, err
	}
	o.proxies = proxies.cpu
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return o, fmt.Errorf("read the CPU time of the bench: %w", err)
	}
	o.clients = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	if o.busy, err = busy(); err != nil {
		return o, err
	}
	all, database, err := b.storeSize()
	o.store = report.Store{All: report.MiB(all), Database: report.MiB(database)}
	return o, err
}

// inForce says whether a database's proxies have its newest policy in force since a moment.
func (b *bench) inForce(ctx context.Context, name string, since time.Time) (bool, error) {
	said, err := b.clients.one().Acknowledgements(ctx, name)
	if refused, ok := errors.AsType[*api.Error](err); ok && refused.ID == api.RateLimit {
		return false, nil
	}
	return err == nil && said.InForce && said.Proxies[0].AppliedAt.After(since), err
}
