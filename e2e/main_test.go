// Package e2e tests the proxy as its users meet it: the real program as a child process, the real PostgreSQL behind
// it, and the real psql, with certificates made for the run.
//
// It is a black box. Nothing here imports the proxy's own packages: what a test may know is what the documentation
// promises, that is files, command lines, signals, the log, the admin endpoint and the wire. What needs a fake clock,
// or a look inside, belongs to the package concerned.
//
// A test is made of four things:
//
//   - [start] runs a proxy in a directory of its own; the [proxy] edits its policy, reads its log and asks its admin endpoint;
//   - [proxy.psql] runs psql through it; the certificates to choose from are those of [pki];
//   - [dial] opens a [wire], a client that sends what no good client would;
//   - [record] is a backend that remembers every connection and every byte, to show that there were none.
//
// What holds for every proxy of every test is checked when it stops: no data race, no panic, nothing that a secret
// was planted in has reached the log, exit code 0. There is no sleep: [eventually.OK] is the one way to wait.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programPath is the program under test, built with the race detector, and pki the certificates. Both are made once, by
// [TestMain], and not changed afterwards.
var (
	programPath string
	pki         *certificates
)

// TestMain builds what all tests share. The tests wait for processes and sockets rather than compute, so more of them run
// at once than there are processors.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("8") // a number is no error
	}
	if err := prepare(m); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

// prepare builds, runs the tests and removes what they shared. Their code is the program's, by TestMain's return.
func prepare(m *testing.M) error {
	dir, err := os.MkdirTemp("", "e2e.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programPath = filepath.Join(dir, "pgmtls-proxy")
	build := exec.Command("go", "build", "-race", "-o", programPath, "../cmd/pgmtls-proxy")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, output)
	}
	if pki, err = newCertificates(dir); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	postgres.Options.Cert, postgres.Options.Key, postgres.Options.CA = pki.backend.CertPEM, pki.backend.KeyPEM, pki.backendCA.PEM()
	postgres.Run(m)
	return nil
}
