package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"pgmtls-proxy/internal/pgtest"
)

// asApp is what a user adds to the settings to show the good certificate.
const asApp = "sslcert=app.crt sslkey=app.key"

// clientSettings is what all the clients have in common: where the database is, and that they verify the
// server's certificate and name. The certificate that a client shows stands on its command line.
func (d *demo) clientSettings() []string {
	return []string{
		"PGHOST=localhost",
		fmt.Sprintf("PGPORT=%d", d.port),
		"PGUSER=app",
		"PGDATABASE=app",
		"PGSSLMODE=verify-full",
		"PGSSLROOTCERT=space-ca.pem",
	}
}

// outcome is what psql printed, and its exit code: 0 when all went well, 2 when there was no connection.
type outcome struct {
	text     string
	exitCode int
}

// psql runs psql, and shows its command line and its output as it comes. The error is about running it at all.
func (d *demo) psql(ctx context.Context, args ...string) (outcome, error) {
	d.show.command(append([]string{"psql"}, args...)...)
	command, err := d.psqlCommand(ctx, args...)
	if err != nil {
		return outcome{}, err
	}
	var text bytes.Buffer
	command.Stdout = io.MultiWriter(&text, d.show.indented())
	command.Stderr = command.Stdout
	return ended(command, &text, command.Run())
}

// psqlCommand prepares psql, to run in the directory with the client's files.
func (d *demo) psqlCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	command, err := pgtest.Client{Env: d.clientSettings()}.Command(ctx, args...)
	if err == nil {
		command.Dir = d.path("client")
	}
	return command, err
}

// ended makes the outcome of a command that has been waited for.
func ended(command *exec.Cmd, text *bytes.Buffer, err error) (outcome, error) {
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !(ok && exit.Exited()) {
		return outcome{}, fmt.Errorf("psql: %w", err)
	}
	return outcome{text.String(), command.ProcessState.ExitCode()}, nil
}

// accepted wants a success with each of the texts in the output.
func (o outcome) accepted(texts ...string) error {
	if o.exitCode != 0 {
		return fmt.Errorf("psql ended with exit code %d", o.exitCode)
	}
	return o.has(texts...)
}

// refused wants psql to have been let in by nobody, and to have shown each of the texts.
func (o outcome) refused(texts ...string) error {
	const noConnection = 2
	if o.exitCode != noConnection {
		return fmt.Errorf("psql ended with exit code %d, not %d: it was not refused", o.exitCode, noConnection)
	}
	return o.has(append(texts, "FATAL:")...)
}

func (o outcome) has(texts ...string) error {
	for _, text := range texts {
		if !strings.Contains(o.text, text) {
			return fmt.Errorf("psql did not show %q", text)
		}
	}
	return nil
}

// mustBeRefused runs psql and wants it to be refused with the texts, and to be told what to do about it.
func (d *demo) mustBeRefused(ctx context.Context, args []string, texts ...string) error {
	o, err := d.psql(ctx, args...)
	if err != nil {
		return err
	}
	return o.refused(append(texts, "HINT:")...)
}

// mustBeAccepted runs psql and wants it to come in.
func (d *demo) mustBeAccepted(ctx context.Context, args ...string) error {
	o, err := d.psql(ctx, args...)
	if err != nil {
		return err
	}
	return o.accepted()
}

// since is a duration for people.
func since(moment time.Time) time.Duration { return time.Since(moment).Round(time.Millisecond) }
