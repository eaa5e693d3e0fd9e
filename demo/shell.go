package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// environmentFile is what a shell reads before it can follow the demo by hand.
const environmentFile = "env.sh"

// export adds lines to the file that every command of the demo reads first, and so can whoever tries it by hand.
func (d *demo) export(lines ...string) error {
	d.exports = append(d.exports, lines...)
	return os.WriteFile(d.path(environmentFile), []byte(strings.Join(d.exports, "\n")+"\n"), 0o644)
}

// outcome is what a command line printed, and its exit code.
type outcome struct {
	text     string
	exitCode int
}

// run shows a command line, lets a shell run exactly that, and shows its output as it comes. The error is about
// running it at all.
func (d *demo) run(ctx context.Context, line string) (outcome, error) {
	d.show.typed(line)
	command, err := d.shell(ctx, line)
	if err != nil {
		return outcome{}, err
	}
	var text bytes.Buffer
	command.Stdout = io.MultiWriter(&text, d.show.indented())
	command.Stderr = command.Stdout
	err = command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !(ok && exit.Exited()) {
		return outcome{}, fmt.Errorf("%s: %w", line, err)
	}
	return outcome{text.String(), command.ProcessState.ExitCode()}, nil
}

// shell prepares a shell for a command line, in the directory of this run. What the machine has set for psql and pgmtls
// does not count.
func (d *demo) shell(ctx context.Context, line string) (*exec.Cmd, error) {
	psql, err := pgtest.Client{}.Command(ctx)
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, "/bin/sh", "-c", ". ./"+environmentFile+"\n"+line)
	command.Dir, command.Env = d.state(), psql.Env
	// A group of its own: a Ctrl-C at the terminal is the demo's to handle, and what the shell has started ends with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	return command, nil
}

// searchPath is the line that lets a shell find the programs of this run, and psql.
func (d *demo) searchPath(ctx context.Context) (string, error) {
	psql, err := pgtest.Client{}.Command(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`export PATH=%s:%s:"$PATH"`, shellQuote(d.path("bin")), shellQuote(filepath.Dir(psql.Path))), nil
}

// must runs a command line that has to succeed, and to print each of the texts.
func (d *demo) must(ctx context.Context, line string, texts ...string) (outcome, error) {
	o, err := d.run(ctx, line)
	if err == nil && o.exitCode != 0 {
		err = fmt.Errorf("it ended with exit code %d", o.exitCode)
	}
	return o, errors.Join(err, o.has(texts...))
}

// fails runs a command line that has to end with the exit code, and to print each of the texts.
func (d *demo) fails(ctx context.Context, line string, exitCode int, texts ...string) (outcome, error) {
	o, err := d.run(ctx, line)
	if err == nil && o.exitCode != exitCode {
		err = fmt.Errorf("it ended with exit code %d, not %d", o.exitCode, exitCode)
	}
	return o, errors.Join(err, o.has(texts...))
}

// comes waits until a command line, which is not shown, prints the text.
func (d *demo) comes(ctx context.Context, line, text string) error {
	return until(ctx, func(ctx context.Context) error {
		command, err := d.shell(ctx, line)
		if err != nil {
			return err
		}
		if output, err := command.CombinedOutput(); err != nil || !strings.Contains(string(output), text) {
			return fmt.Errorf("%s did not print %q, but: %s", line, text, output)
		}
		return nil
	})
}

// letIn runs psql with what stands before it, and wants it to come in.
func (d *demo) letIn(ctx context.Context, with string) error {
	_, err := d.must(ctx, with+`psql "$URL" -Atc "select 'let in'"`, "let in")
	return err
}

// noConnection is psql's exit code when it was not let in.
const noConnection = 2

// refused runs psql with what stands before it, and wants it to be refused with the texts, and to be told what to do.
func (d *demo) refused(ctx context.Context, with string, texts ...string) (outcome, error) {
	return d.fails(ctx, with+`psql "$URL" -c 'select 1'`, noConnection, append(texts, "FATAL:", "HINT:")...)
}

func (o outcome) has(texts ...string) error {
	for _, text := range texts {
		if !strings.Contains(o.text, text) {
			return fmt.Errorf("it did not print %q", text)
		}
	}
	return nil
}

// find gives what the expression's group matches in the output.
func (o outcome) find(expression *regexp.Regexp) (string, error) {
	match := expression.FindStringSubmatch(o.text)
	if match == nil {
		return "", fmt.Errorf("the output has no match for %s", expression)
	}
	return match[1], nil
}
