package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pgmtls-proxy/bench/control/internal/report"
	"pgmtls-proxy/internal/control/api"
)

// pollAlone is how long a client waits between two questions when there is no other.
const pollAlone = 5 * time.Millisecond

// measureOne measures changes one after the other, with one database and one proxy beside the daemon.
func measureOne(ctx context.Context, b *bench) error {
	if _, err := b.startDaemon(ctx); err != nil {
		return err
	}
	version, err := b.clients.one().Version(ctx)
	if err != nil {
		return err
	}
	b.found.Version = version.Version
	const name = "beside"
	if err := b.startProxy(ctx, name); err != nil {
		return err
	}
	if err := errors.Join(b.registered(ctx, name), b.operational(ctx)); err != nil {
		return err
	}
	b.say("%d changes, one proxy beside the daemon", b.changes)
	b.found.Beside, err = b.oneByOne(ctx, name)
	return err
}

// measureAgent measures the same through an agent.
func measureAgent(ctx context.Context, b *bench) (err error) {
	const name = "away"
	if err := b.startProxy(ctx, name); err != nil {
		return err
	}
	if err := b.register(ctx, name, api.NewProxy{Name: "edge"}); err != nil {
		return err
	}
	enrolment, err := b.clients.one().CreateEnrolment(ctx, api.NewEnrolment{Database: name, Proxy: "edge"})
	if err != nil {
		return err
	}
	token := filepath.Join(b.dir, "agent.token")
	if err := os.WriteFile(token, []byte(enrolment.Token+"\n"), 0o600); err != nil {
		return err
	}
	agent, err := b.start("pgmtls", "agent", "agent", "--database", name, "--control", b.clients.url, "--ca", b.clients.ca,
		"--policy-dir", b.policyDir(name), "--admin", "unix:"+b.socket(name), "--state", filepath.Join(b.dir, "agent"), "--token-file", token)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, agent.Stop()) }()
	if err := b.operational(ctx); err != nil {
		return fmt.Errorf("%w; the agent's log ends with: %s", err, agent.LogTail())
	}
	b.say("%d changes, one proxy with an agent", b.changes)
	b.found.Agent, err = b.oneByOne(ctx, name)
	return err
}

// oneByOne makes changes of one database, each when the one before is in force.
func (b *bench) oneByOne(ctx context.Context, name string) (series report.Series, err error) {
	for i := range b.changes {
		began := time.Now()
		rule, err := b.createRule(ctx, name, i, pollAlone)
		if err != nil {
			return series, err
		}
		series.Authorized.Add(time.Since(began))
		acknowledged, err := b.clients.one().Acknowledgements(ctx, name)
		if err != nil {
			return series, err
		}
		series.Applied.Add(acknowledged.Proxies[0].AppliedAt.Sub(began))

		began = time.Now()
		if err := b.deleteRule(ctx, name, rule); err != nil {
			return series, err
		}
		series.Gone.Add(time.Since(began))
	}
	return series, nil
}

// createRule makes the i-th rule of a database, and returns when it is seen as Authorized.
func (b *bench) createRule(ctx context.Context, name string, i int, poll time.Duration) (id string, err error) {
	rule, err := b.clients.one().CreateRule(ctx, name, api.NewRule{CIDR: fmt.Sprintf("10.%d.%d.0/24", i>>8&0xff, i&0xff), Description: "office"})
	if err != nil {
		return "", err
	}
	return rule.ID, until(ctx, poll, "rule "+rule.CIDR+" of "+name+" is authorized", func(ctx context.Context) (bool, error) {
		rule, err := b.clients.one().Rule(ctx, name, rule.ID)
		return rule.Status == api.Authorized, err
	})
}

// deleteRule deletes one, and returns when it is gone.
func (b *bench) deleteRule(ctx context.Context, name, id string) error {
	if _, err := b.clients.one().DeleteRule(ctx, name, id); err != nil {
		return err
	}
	return until(ctx, pollAlone, "rule "+id+" of "+name+" is gone", func(ctx context.Context) (bool, error) {
		_, err := b.clients.one().Rule(ctx, name, id)
		if refused, ok := errors.AsType[*api.Error](err); ok && refused.ID == api.NotFound {
			return true, nil
		}
		return false, err
	})
}
