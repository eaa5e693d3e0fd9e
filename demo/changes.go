package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/testpki"
	"pgmtls-proxy/internal/tlsconf"
)

func removeRule(ctx context.Context, d *demo) (verdict string, err error) {
	session, err := d.openSession(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, session.close()) }()

	removed, err := d.edit(func(p *policy) { p.rules = []rule{office} })
	if err != nil {
		return "", err
	}
	err = errors.Join(d.inForce(ctx),
		d.mustBeRefused(ctx, []string{asApp, "-c", "select 1"}, `no allowlist entry for host "127.0.0.1"`))
	verdict = fmt.Sprintf("a new connection was refused %s after the write", since(removed))
	err = errors.Join(err, session.lives())

	// Also after a failure: the steps behind this one need the rule.
	put, editErr := d.edit(func(p *policy) { p.rules = slices.Concat([]rule{thisMachine}, p.rules) })
	if err := errors.Join(err, editErr); err != nil {
		return "", err
	}
	err = errors.Join(d.inForce(ctx), d.mustBeAccepted(ctx, asApp, "-c", "select 'in again' as after"))
	verdict += fmt.Sprintf(", and let in %s after the rule was back; the session lived on", since(put))
	return verdict, errors.Join(err, session.lives())
}

func endSession(ctx context.Context, d *demo) (verdict string, err error) {
	session, err := d.openSession(ctx)
	if err != nil {
		return "", err
	}
	removed, err := d.edit(func(p *policy) { p.rules, p.keep = []rule{office}, false })
	if err != nil {
		return "", errors.Join(err, session.close())
	}
	err = until(ctx, func(ctx context.Context) error {
		count, err := d.behindTheProxy(ctx, "select count(*) from pg_stat_activity where pid = "+session.backend)
		if err == nil && count != "0" {
			err = errors.New("PostgreSQL still serves the session")
		}
		return err
	})
	verdict = fmt.Sprintf("PostgreSQL had let go of the session %s after the write, and its client reads why", since(removed))
	err = errors.Join(err, session.wasEnded("terminating connection", "No IP rule allows the address 127.0.0.1 any more"))

	_, editErr := d.edit(func(p *policy) { p.rules = slices.Concat([]rule{thisMachine}, p.rules) })
	if err := errors.Join(err, editErr); err != nil {
		return "", err
	}
	return verdict, d.inForce(ctx)
}

func replaceServerCertificate(ctx context.Context, d *demo) (verdict string, err error) {
	session, err := d.openSession(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, session.close()) }()

	before, err := d.servedSerial(ctx)
	if err != nil {
		return "", err
	}
	d.show.say("Clients are shown the certificate with the serial\n  %s.\n"+
		"The files server.key and server.crt are replaced, as a renewal does. policy.yaml stays as it is.", before)
	if err := d.writeServerCertificate(); err != nil {
		return "", err
	}
	written := time.Now()
	var after string
	err = until(ctx, func(ctx context.Context) (err error) {
		if after, err = d.servedSerial(ctx); err == nil && after == before {
			err = errors.New("clients are still shown the old certificate")
		}
		return err
	})
	if err != nil {
		return "", err
	}
	verdict = fmt.Sprintf("replaced %s after the write; the session lived on", since(written))
	d.show.say("Clients are shown the certificate with the serial\n  %s.", after)
	return verdict, errors.Join(d.mustBeAccepted(ctx, asApp, "-c", "select 'verified' as new_certificate"), session.lives())
}

// servedSerial connects as psql does, verifies the server's certificate, and gives its serial, which psql can't show.
func (d *demo) servedSerial(ctx context.Context) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", loopback(d.port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	request, err := (&pgproto3.SSLRequest{}).Encode(nil)
	if err != nil {
		return "", err
	}
	if _, err := conn.Write(request); err != nil {
		return "", err
	}
	answer := []byte{0}
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'S' {
		return "", fmt.Errorf("the proxy answered %q to a request for TLS: %w", answer, err)
	}
	client := tls.Client(conn, &tls.Config{RootCAs: d.ca.Pool(), ServerName: "localhost", NextProtos: []string{"postgresql"}})
	if err := client.HandshakeContext(ctx); err != nil {
		return "", err
	}
	return tlsconf.FormatSerial(client.ConnectionState().PeerCertificates[0].SerialNumber), nil
}

func makeMistake(ctx context.Context, d *demo) (verdict string, err error) {
	good := d.policy.yaml()
	wrong := strings.Replace(good, office.cidr, "192.0.2.1/24", 1)
	d.show.say("policy.yaml is written with a network that can't be meant:")
	d.show.output(difference(good, wrong))
	if err := testpki.WriteFile(d.path("policy", "policy.yaml"), []byte(wrong), 0o644); err != nil {
		return "", err
	}
	var now status
	err = until(ctx, func(ctx context.Context) (err error) {
		if now, err = d.status(ctx); err == nil && now.Reload.Error == "" {
			err = errors.New("the proxy has not noticed the mistake")
		}
		return err
	})
	d.show.say("GET /status tells what is wrong, and what to write instead:")
	d.show.output(now.Reload.Error + "\n")
	err = errors.Join(err,
		d.mustBeAccepted(ctx, asApp, "-c", "select 'the last good policy is in force' as meanwhile"),
		d.writePolicy(), d.inForce(ctx))
	if err == nil && !strings.Contains(now.Reload.Error, "192.0.2.0/24") {
		err = errors.New("the proxy did not say what to write instead")
	}
	return "the mistake is named, and the last good policy stayed in force", err
}

func cancelQuery(ctx context.Context, d *demo) (string, error) {
	args := []string{asApp, "-c", "select pg_sleep(30)"}
	d.show.command(append([]string{"psql"}, args...)...)
	command, err := d.psqlCommand(ctx, args...)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	command.Stdout, command.Stderr = &text, &text
	if err := command.Start(); err != nil {
		return "", err
	}
	if err := until(ctx, d.sleeping); err != nil {
		return "", errors.Join(err, command.Process.Kill(), command.Wait())
	}
	d.show.output("^C\n")
	pressed := time.Now()
	if err := command.Process.Signal(os.Interrupt); err != nil {
		return "", err
	}
	o, err := ended(command, &text, command.Wait())
	d.show.output(o.text)
	if err == nil && o.exitCode != 1 {
		err = fmt.Errorf("psql ended with exit code %d, not 1", o.exitCode)
	}
	verdict := fmt.Sprintf("the query ended %s after Ctrl-C", since(pressed))
	return verdict, errors.Join(err, o.has("canceling statement due to user request"))
}

// sleeping wants PostgreSQL to be busy with the query.
func (d *demo) sleeping(ctx context.Context) error {
	count, err := d.behindTheProxy(ctx, "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(30)'")
	if err == nil && count != "1" {
		err = errors.New("the query has not arrived at PostgreSQL")
	}
	return err
}
