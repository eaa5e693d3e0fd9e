package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// demo is one run: what it has started, and what later steps need of earlier ones.
type demo struct {
	options
	show    *printer
	exports []string // lines of env.sh

	postgres *pgtest.Server
	control  *program // the control plane
	proxy    *program
	public   *stage // a public authority and a name server; nil: not started

	controlArgs []string // of pgmtls
}

// setUp starts everything. What it has started when it fails, tearDown stops.
func (d *demo) setUp(ctx context.Context) error {
	if err := d.checkPorts(); err != nil {
		return err
	}
	d.show.heading("The stage")
	d.show.say("PostgreSQL, on a unix socket that only the proxy uses ...")
	if err := d.startPostgres(ctx); err != nil {
		return err
	}
	d.show.say("the programs, built from this repository (the first build takes some minutes) ...")
	if err := d.makeFiles(ctx); err != nil {
		return err
	}
	d.show.typed(commandLine("cd", d.state()))
	d.show.typed(`export PATH="$PWD/bin:$PATH"`)
	d.show.say("The control plane needs only a directory. It creates its store, a master key and a token there.")
	d.controlArgs = []string{"serve", "--data-dir", "control", "--listen", loopback(d.controlPort)}
	if err := d.startControlPlane(ctx); err != nil {
		return err
	}
	d.show.typed(`export PGMTLS_CONFIG="$PWD/control/client.yaml"`)
	d.show.say("The proxy has a configuration file, written by its operator. The control plane writes the access policy into policy_dir.")
	if _, err := d.must(ctx, "cat proxy.yaml"); err != nil {
		return err
	}
	var err error
	d.proxy, err = d.startProxy(ctx)
	return err
}

// startPostgres runs a server with a database shop and a user app. Nobody but the proxy can reach its
// socket in this demo, so it trusts whom the proxy lets through.
func (d *demo) startPostgres(ctx context.Context) error {
	server, err := pgtest.Launch(pgtest.Options{})
	if err != nil {
		return err
	}
	d.postgres = server
	return d.asSuperuser(ctx, "create role app login", "create database shop owner app")
}

// asSuperuser runs statements past the proxy.
func (d *demo) asSuperuser(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := d.behindTheProxy(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// behindTheProxy runs one statement over PostgreSQL's own socket, and gives its answer.
func (d *demo) behindTheProxy(ctx context.Context, statement string) (string, error) {
	result, err := pgtest.Psql(ctx, nil, d.postgres.DSN(), "-At", "-c", statement)
	if err == nil && result.ExitCode != 0 {
		err = errors.New(result.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", statement, err)
	}
	return strings.TrimSpace(result.Stdout), nil
}

// makeFiles makes the directory of this run, afresh, with what the first programs need.
func (d *demo) makeFiles(ctx context.Context) error {
	if err := os.RemoveAll(d.state()); err != nil {
		return fmt.Errorf("remove what an earlier demo left: %w", err)
	}
	// The proxy watches its policy_dir from the start. The control plane gives what it writes to the directory's owner.
	if err := os.MkdirAll(d.path("control", "policies", "shop"), 0o700); err != nil {
		return err
	}
	path, err := d.searchPath(ctx)
	if err != nil {
		return err
	}
	return errors.Join(d.build(ctx), d.writeProxyConfig(),
		d.export(path, "export PGMTLS_CONFIG="+shellQuote(d.path("control", "client.yaml"))))
}

// tearDown stops what setUp has started. It may be called after a setUp that failed half-way.
func (d *demo) tearDown() error {
	var problems []error
	d.show.line("")
	for _, p := range []*program{d.proxy, d.control} {
		if p != nil {
			problems = append(problems, d.stop(p))
		}
	}
	if d.public != nil {
		d.public.close()
	}
	if d.postgres != nil {
		pid := d.postgres.PID()
		err := d.postgres.Close()
		if err == nil {
			d.show.say("PostgreSQL (process %d) has ended.", pid)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// patience is how long the demo waits for something that takes milliseconds, or ten seconds at most. It is long since the
// machine may be busy.
const patience = 30 * time.Second

// until asks again and again for up to [patience], and gives the last error if the answer stays no.
func until(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (waited for %s)", err, patience)
		case <-tick.C:
		}
	}
}

// tail is the end of a log file, for error messages.
func tail(path string) string {
	const most = 2 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
