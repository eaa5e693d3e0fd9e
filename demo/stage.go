package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"pgmtls-proxy/internal/pgtest"
)

// demo is one run: what it has started and made.
type demo struct {
	options
	show *printer

	postgres *pgtest.Server
	ca       spaceCA
	policy   policy // as it stands in policy.yaml
	proxy    *proxy
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
	d.show.say("the CA of this database's space, with certificates for the server and for clients ...")
	if err := d.makeFiles(); err != nil {
		return err
	}
	d.show.say("the proxy, built from this repository ...")
	if err := d.buildProxy(ctx); err != nil {
		return err
	}
	d.show.command("cd", d.state())
	d.show.say("Its operator writes proxy.yaml, which says what the process is ...")
	if err := d.showFile("proxy.yaml"); err != nil {
		return err
	}
	d.show.say("... and the control plane policy.yaml, which says who may come in, and is live.")
	if err := d.showFile("policy/policy.yaml"); err != nil {
		return err
	}
	if err := d.checkConfiguration(ctx); err != nil {
		return err
	}
	if err := d.startProxy(ctx); err != nil {
		return err
	}
	d.show.say("Every psql below runs with these settings. Paste them to follow by hand.")
	d.show.command("cd", "client")
	d.show.line("%sexport %s", d.show.paint(bold, "$ "), strings.Join(d.clientSettings(), " "))
	return nil
}

// startPostgres runs a server with a database and a user, both named app. Nobody but the proxy can reach its
// socket in this demo, so it trusts whom the proxy lets through.
func (d *demo) startPostgres(ctx context.Context) error {
	server, err := pgtest.Launch(pgtest.Options{})
	if err != nil {
		return err
	}
	d.postgres = server
	return d.asSuperuser(ctx, "create role app login", "create database app owner app")
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

// makeFiles writes the directory of this run, afresh.
func (d *demo) makeFiles() error {
	if err := os.RemoveAll(d.state()); err != nil {
		return fmt.Errorf("remove what an earlier demo left: %w", err)
	}
	for _, dir := range []string{"policy", "client"} {
		if err := os.MkdirAll(d.path(dir), 0o755); err != nil {
			return err
		}
	}
	var err error
	if d.ca, err = newSpaceCA(); err != nil {
		return err
	}
	d.policy = firstPolicy()
	return errors.Join(d.writeServerSide(), d.writeClientSide(), d.writePolicy(), d.writeProxyConfig())
}

func (d *demo) showFile(name string) error {
	text, err := os.ReadFile(d.path(name))
	if err == nil {
		d.show.command("cat", name)
		d.show.output(string(text))
	}
	return err
}

// tearDown stops what setUp has started. It may be called after a setUp that failed half-way.
func (d *demo) tearDown() error {
	var proxyErr, postgresErr error
	if d.proxy != nil {
		proxyErr = d.stopProxy()
	}
	if d.postgres != nil {
		pid := d.postgres.PID()
		if postgresErr = d.postgres.Close(); postgresErr == nil {
			d.show.say("PostgreSQL (process %d) has ended.", pid)
		}
	}
	return errors.Join(proxyErr, postgresErr)
}

// patience is how long the demo waits for something that takes milliseconds. It is long since the machine may
// be busy.
const patience = 15 * time.Second

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
