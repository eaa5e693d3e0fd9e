package e2e

import (
	"context"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// errand is a program that runs beside the test.
type errand struct {
	over   chan struct{} // closed when it has ended; then the rest is set
	result pgtest.Result
	err    error
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
	e := &errand{over: make(chan struct{})}
	client := pgtest.Client{Program: "pgbench", Env: psqlEnv}
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	go func() {
		defer cancel()
		defer close(e.over)
		e.result, e.err = client.Run(ctx, args...)
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
