package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"pgmtls-proxy/bench/control/internal/report"
)

// measureRestart measures the daemon's start when the proxies have what they need.
func measureRestart(ctx context.Context, b *bench) error {
	b.say("start the daemon again")
	b.clients.closeIdle() // a server that stops waits five seconds for connections that were made and never used
	began := time.Now()
	if err := b.stopDaemon(); err != nil {
		return err
	}
	b.found.Stop = report.Seconds(time.Since(began))
	began = time.Now()
	took, err := b.startDaemon(ctx)
	if err != nil {
		return err
	}
	err = until(ctx, 20*time.Millisecond, "every proxy is asked", func(ctx context.Context) (bool, error) {
		answer, err := b.asked(ctx, began)
		return answer.Asked == answer.Proxies, err
	})
	if err != nil {
		return err
	}
	all := time.Since(began)
	used, err := usageOf(b.daemon)
	b.found.Restart = report.Start{Answers: report.Seconds(took), All: report.Seconds(all), CPU: report.Seconds(used.cpu), Resident: report.MiB(used.resident), Peak: report.MiB(used.peak)}
	return err
}

// measureColdStart measures the start of everything, with policy directories that are empty: until every proxy has its
// policy in force, and the control plane knows it.
func measureColdStart(ctx context.Context, b *bench) error {
	b.say("start everything with empty policy directories")
	if err := b.stopAll(); err != nil {
		return err
	}
	if err := b.emptyPolicies(); err != nil {
		return err
	}
	for _, name := range append(b.realNames(), "beside") {
		if err := b.startProxy(ctx, name); err != nil {
			return err
		}
	}
	if err := b.startStandIns(ctx, b.standInNames()); err != nil {
		return err
	}
	began := time.Now()
	took, err := b.startDaemon(ctx)
	if err != nil {
		return err
	}
	for _, name := range append(b.standInNames(), b.realNames()...) {
		if err := until(ctx, pollMany, "the policy of "+name+" is in force", func(ctx context.Context) (bool, error) {
			return b.inForce(ctx, name, began)
		}); err != nil {
			return err
		}
	}
	all := time.Since(began)
	used, err := usageOf(b.daemon)
	b.found.Cold = report.Start{Answers: report.Seconds(took), All: report.Seconds(all), CPU: report.Seconds(used.cpu), Resident: report.MiB(used.resident), Peak: report.MiB(used.peak)}
	return err
}

// emptyPolicies removes the sockets of processes that have ended, and what lies in the policy directories.
func (b *bench) emptyPolicies() error {
	for _, dir := range []string{b.sockets(), b.policies()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return ignoreMissing(os.Remove(filepath.Join(b.dir, tallySocket)))
}
