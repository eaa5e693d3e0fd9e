// Package control tests the control plane as its users meet it: the real programs as child processes, real proxies in
// front of a real PostgreSQL, and the real psql, with the certificates that the control plane has made.
//
// It is a black box, as package e2e is for the proxy alone: nothing here imports the programs' own packages. What a
// test knows is what the documentation promises, that is command lines, exit codes, HTTP, files, signals and logs.
//
// A test is made of these:
//
//   - a [plane] is a daemon with its data directory; [plane.do] runs the command line against it, [plane.api] asks by HTTP;
//   - a [front] is a proxy, with the policy directory that somebody delivers to;
//   - a [helper] is an agent, which reaches the daemon through a [relay] that can be cut;
//   - a [visitor] is psql with a client certificate's files.
//
// What holds for every process is checked when it ends: no data race, no panic, no token and no private key in its log.
// Proxies never go back to an older generation. There is no sleep: [eventually.OK] is the one way to wait.
package control

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"pgmtls-proxy/internal/testkit/etcdtest"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// The programs under test, built with the race detector once for all tests.
var pgmtlsPath, proxyPath string

// postgres is the server behind every proxy. It trusts everyone.
var postgres pgtest.Shared

// TestMain builds the programs. The tests wait for processes and sockets rather than compute, so more of them run at
// once than there are processors.
func TestMain(m *testing.M) {
	if etcdtest.IsMember() {
		return
	}
	if os.Getenv(asPGX) != "" {
		connectByPGX(os.Args[1:])
		return
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("4") // a number is no error
	}
	if err := prepare(m); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/control:", err)
		os.Exit(1)
	}
}

// prepare builds, runs the tests and removes what they shared. Their code is the program's, by TestMain's return.
func prepare(m *testing.M) error {
	dir, err := os.MkdirTemp("", "e2e-control.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-race", "-o", dir, "../../cmd/pgmtls", "../../cmd/pgmtls-proxy")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, output)
	}
	pgmtlsPath, proxyPath = filepath.Join(dir, "pgmtls"), filepath.Join(dir, "pgmtls-proxy")
	postgres.Run(m)
	return nil
}
