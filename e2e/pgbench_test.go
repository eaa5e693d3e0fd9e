package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// errand is a program that runs beside the test.
type errand struct {
	command *exec.Cmd
	over    chan struct{} // closed when it has ended; then the rest is set
	result  pgtest.Result
	err     error
}

func isOver(e *errand) bool {
	select {
	case <-e.over:
		return true
	default:
		return false
	}
}

// processed is the number of transactions.
func (e *errand) processed(t *testing.T) int {
	t.Helper()
	match := processedTransactions.FindStringSubmatch(e.result.Stdout)
	if match == nil {
		t.Fatalf("pgbench printed %s", e.result.Stdout)
	}
	n, err := strconv.Atoi(match[1])
	must.OK(t, err)
	return n
}

var processedTransactions = regexp.MustCompile(`number of transactions actually processed: ([0-9]+)`)

// stop has pgbench end its run as at the end of its time: it sends what the alarm clock of -T would.
func (e *errand) stop(t *testing.T) {
	t.Helper()
	must.OK(t, e.command.Process.Signal(syscall.SIGALRM))
}

// mustSucceed waits for the program. Pgbench counts a transaction that failed and goes on; a client whose connection fails is
// given up, which shows in the exit code.
func (e *errand) mustSucceed(t *testing.T) {
	t.Helper()
	<-e.over
	if e.err != nil {
		t.Fatal(e.err)
	}
	if e.result.ExitCode != 0 || !strings.Contains(e.result.Stdout, "number of failed transactions: 0 (") {
		t.Fatalf("pgbench ended with %d:\n%s%s", e.result.ExitCode, e.result.Stdout, e.result.Stderr)
	}
}

// pgbench begins a run.
func pgbench(t *testing.T, args ...string) *errand {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	command, err := pgtest.Client{Program: "pgbench", Env: psqlEnv}.Command(ctx, args...)
	must.OK(t, err)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	must.OK(t, command.Start())
	e := &errand{command: command, over: make(chan struct{})}
	go func() {
		defer cancel()
		defer close(e.over)
		err := command.Wait()
		e.result = pgtest.Result{Stdout: stdout.String(), Stderr: stderr.String(), ExitCode: command.ProcessState.ExitCode()}
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			e.err = err
		} else if ctx.Err() != nil {
			e.err = fmt.Errorf("pgbench: %w; it had printed %s%s", context.Cause(ctx), e.result.Stdout, e.result.Stderr)
		}
	}()
	return e
}

// selectOne is a script of pgbench's.
func selectOne(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "select.sql")
	writeFile(t, path, []byte("select 1;\n"))
	return path
}
