package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"pgmtls-proxy/bench/internal/dummy"
	"pgmtls-proxy/bench/internal/load"
	"pgmtls-proxy/bench/internal/peers"
	"pgmtls-proxy/bench/internal/proc"
	"pgmtls-proxy/bench/internal/report"
	"pgmtls-proxy/internal/testkit/testpki"
)

// bench is one run.
type bench struct {
	options
	out     io.Writer
	started time.Time
	dir     string // for everything that the run makes; short, since sockets are in it
	account proc.Account
	files   int // the limit on open files, of every process

	ca          *testpki.CA
	ecdsa, rsa  *testpki.Pair // of the server
	client      *testpki.Pair
	leaver      *testpki.Pair // a client whose certificate is revoked in the course of a measurement
	kinds       []peers.Kind  // that are here and work
	dummy       *proc.Process
	dummySocket string // its directory
	sites       int    // how many proxies were started
	found       report.Results
}

func newBench(o options, out io.Writer) (_ *bench, err error) {
	b := &bench{options: o, out: out, started: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.files, err = raiseFiles(); err != nil {
		return nil, err
	}
	if b.account, err = proc.Unprivileged(); err != nil {
		return nil, err
	}
	// Not os.TempDir: the path of a unix socket has 107 bytes at most, and the proxies' account must reach it.
	if b.dir, err = os.MkdirTemp("/tmp", "pgbench."); err != nil {
		return nil, err
	}
	if err = errors.Join(os.Chmod(b.dir, 0o755), b.makeCertificates()); err != nil {
		return nil, err
	}
	if err = b.startDummy(); err != nil {
		return nil, err
	}
	b.findKinds()
	b.found = report.Results{
		Date:     b.started,
		Machine:  b.machine(),
		Settings: report.Settings{Quick: o.quick, Rounds: o.rounds, Window: o.window, Idle: o.idle},
		Programs: b.found.Programs,
		Notes:    b.found.Notes,
	}
	return b, nil
}

// raiseFiles raises the limit on open files as far as it goes, for the children too, which Go does not by itself.
func raiseFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit on open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("raise the limit on open files: %w", err)
	}
	return int(min(limit.Cur, 1<<20)), nil
}

// makeCertificates makes one CA, the servers' certificates with each kind of key, and the clients' one.
func (b *bench) makeCertificates() (err error) {
	if b.ca, err = testpki.NewCA(testpki.Authority("Bench CA")); err != nil {
		return err
	}
	server := testpki.Server("localhost", "127.0.0.1")
	if b.ecdsa, err = b.ca.Issue(server); err != nil {
		return err
	}
	server.Key = testpki.RSA2048
	if b.rsa, err = b.ca.Issue(server); err != nil {
		return err
	}
	if b.client, err = b.ca.Issue(testpki.Client("bench")); err != nil {
		return err
	}
	if b.leaver, err = b.ca.Issue(testpki.Client("leaver")); err != nil {
		return err
	}
	return errors.Join(
		b.client.Write(filepath.Join(b.dir, "client")),
		os.WriteFile(filepath.Join(b.dir, "ca.pem"), b.ca.PEM(), 0o644),
		os.WriteFile(filepath.Join(b.dir, "openssl.cnf"), []byte(peers.OpenSSL), 0o644))
}

// clientTLS is what the bench's own client offers. The one curve is the one that every peer has, too: Go's first choice, a
// post-quantum exchange, would burden only those that know it.
func (b *bench) clientTLS() *tls.Config {
	return &tls.Config{
		ServerName:                  "localhost",
		RootCAs:                     b.ca.Pool(),
		Certificates:                []tls.Certificate{b.client.TLS()},
		MinVersion:                  tls.VersionTLS13,
		CurvePreferences:            []tls.CurveID{tls.X25519, tls.CurveP256},
		NextProtos:                  []string{"postgresql"},
		DynamicRecordSizingDisabled: true,
	}
}

// startDummy runs this program once more, as the database.
func (b *bench) startDummy() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.dummySocket = filepath.Join(b.dir, "dummy")
	if err := os.Mkdir(b.dummySocket, 0o755); err != nil {
		return err
	}
	b.dummy, err = proc.Start(proc.Program{Path: self, Args: []string{"-dummy", b.dummySocket}, Dir: b.dir, Log: filepath.Join(b.dir, "dummy.log")})
	if err != nil {
		return err
	}
	socket := load.Target{Network: "unix", Address: filepath.Join(b.dummySocket, dummy.SocketName), User: peers.User, Database: peers.Database}
	_, err = ready(context.Background(), b.dummy, socket)
	return err
}

// findKinds looks who is here. Who is not is left out, with a note.
func (b *bench) findKinds() {
	for _, kind := range peers.Kinds(b.built) {
		version, err := kind.Version()
		if err != nil {
			b.note("%s: %v", kind.Name, err)
			continue
		}
		b.kinds = append(b.kinds, kind)
		b.found.Programs = append(b.found.Programs, report.Program{Name: kind.Name, Version: version})
	}
}

// note says what is left out, now and in the results. The same is said once.
func (b *bench) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if slices.Contains(b.found.Notes, note) {
		return
	}
	b.found.Notes = append(b.found.Notes, note)
	b.say("left out: %s", note)
}

// say prints a line with the time since the start. The run goes on when nobody reads it: its results are files.
func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.out, "%6s  %s\n", time.Since(b.started).Truncate(time.Second), fmt.Sprintf(format, args...))
}

// wanted says whether a scenario is to be measured.
func (b *bench) wanted(scenarios ...report.Scenario) bool {
	return slices.ContainsFunc(scenarios, func(s report.Scenario) bool { return b.only.MatchString(string(s)) })
}

// finish writes the results.
func (b *bench) finish() error {
	if err := b.found.Write(b.results); err != nil {
		return err
	}
	_, err := fmt.Fprintf(b.out, "%s\nThe results are in %s.\n", b.found.Goals(), filepath.Join(b.results, "results.md"))
	return err
}

// close ends what the run has started and removes what it has made.
func (b *bench) close() error {
	var errs []error
	if b.dummy != nil {
		errs = append(errs, b.dummy.Stop())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}
