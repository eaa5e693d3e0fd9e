package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Client is how a client program of the distribution is run. The zero value is psql with the system's libpq.
type Client struct {
	Program string    // psql (the default), pgbench, pg_dump, …
	LibDir  string    // where to find another libpq: [Install.LibDir]
	Env     []string  // "PGSSLMODE=require", …; the machine's own PG* variables are never passed on
	Stdin   io.Reader // nil: empty
}

// Result is what a client program printed and how it ended.
type Result struct {
	Stdout, Stderr string
	ExitCode       int // -1 when a signal or the context ended it
}

// Psql runs psql: env as in [Client.Env], args as for the program, the connection string among them. Messages
// are in English and no psqlrc is read. The error is about running it at all; a refused connection is a
// [Result] with exit code 2.
func Psql(ctx context.Context, env []string, args ...string) (Result, error) {
	return Client{Env: env}.Run(ctx, args...)
}

// Run runs the program to its end, or kills it when the context ends, which is an error too.
func (c Client) Run(ctx context.Context, args ...string) (Result, error) {
	command, err := c.Command(ctx, args...)
	if err != nil {
		return Result{}, err
	}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err = command.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String(), ExitCode: command.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return result, fmt.Errorf("%s: %w; it had printed: %s%s", c.name(), context.Cause(ctx), result.Stdout, result.Stderr)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return result, fmt.Errorf("%s: %w", c.name(), err)
	}
	return result, nil
}

// Command prepares the program for callers that talk to it or send it signals while it runs.
func (c Client) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	dir := distributionDir(c.name())
	if dir == "" {
		return nil, fmt.Errorf("there is no %s on this machine; scripts/setup.sh installs it", c.name())
	}
	home, err := emptyHome()
	if err != nil {
		return nil, err
	}
	if c.name() == "psql" {
		args = append([]string{"-X"}, args...)
	}
	command := exec.CommandContext(ctx, filepath.Join(dir, c.name()), args...)
	command.Env = append(c.environment(home), c.Env...)
	command.Stdin = c.Stdin
	command.WaitDelay = time.Second
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command, nil
}

func (c Client) name() string {
	if c.Program == "" {
		return "psql"
	}
	return c.Program
}

// environment is the machine's without what steers libpq, psql and their language.
func (c Client) environment(home string) []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "PSQL"), strings.HasPrefix(name, "LC_"):
		case name == "HOME", name == "LANG", name == "LANGUAGE", name == "LD_LIBRARY_PATH", name == "SSL_CERT_FILE", name == "SSL_CERT_DIR", name == "OPENSSL_CONF":
		default:
			env = append(env, variable)
		}
	}
	env = append(env, "HOME="+home, "LC_ALL=C", "PGSYSCONFDIR="+home)
	if c.LibDir != "" {
		env = append(env, "LD_LIBRARY_PATH="+c.LibDir)
	}
	return env
}

// emptyHome is a directory in which libpq finds no ~/.postgresql, ~/.pgpass or ~/.pg_service.conf: one that
// does not exist, so that nothing can put a file there and nothing has to remove it.
var emptyHome = sync.OnceValues(func() (string, error) {
	const home = "/nonexistent"
	if _, err := os.Lstat(home); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s, the clients' empty home directory, exists (%v); remove it", home, err)
	}
	return home, nil
})
