// Package pgtest runs real PostgreSQL servers and real clients for tests.
//
// A [Server] is initdb and postgres of the distribution (or of another [Install]), in its own short directory
// under /tmp, run by an unprivileged user when the test is root, reachable by a unix socket and, on request,
// by a free loopback port. A [Client] is psql or pgbench with an environment that holds nothing of the
// machine's: no PGHOST, no ~/.postgresql, no service file.
//
// It is not a fake: nothing here speaks the protocol. It is not for production code either: only tests, the
// demo and the benchmarks import it. It imports nothing of the project, so every package's tests may use it.
//
// A server ends with its test. Should the test process be killed, the kernel ends the server (the parent death
// signal), and the directory it leaves is removed by the next run.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What every server has: the superuser, its password (asked for only if the HBA lines say so), and the one
// database that initdb makes for people.
const (
	Superuser = "postgres"
	Password  = "pgtest"
	Database  = "postgres"
)

// Options specifies which server to run. The zero value is the distribution's newest PostgreSQL on a unix socket
// only, without TLS, which trusts everyone.
type Options struct {
	// Install has the programs; the zero value means [Distribution].
	Install Install

	// TCP makes the server listen on a free port of 127.0.0.1 too.
	TCP bool

	// Cert and Key (PEM) switch the server's TLS on. CA (PEM), with them, is what client certificates are
	// verified against when an HBA line says so (ssl_ca_file).
	Cert, Key, CA []byte

	// Settings are added to postgresql.conf, and win over this package's own.
	Settings map[string]string

	// HBA is the text of pg_hba.conf. Empty means that everyone is trusted, over sockets and TCP, with TLS and
	// without.
	HBA string
}

// Server is one running PostgreSQL. Its fields do not change while it exists, [Server.Restart] included.
// Methods are safe for concurrent use.
type Server struct {
	SocketDir  string // for host=
	SocketPath string // for a backend address "unix:…"
	Port       int    // of the socket's name, and of 127.0.0.1 with Options.TCP
	DataDir    string
	LogPath    string // what the server wrote, on standard error

	install Install
	account account
	tcp     bool

	mu      sync.Mutex
	process *process // nil after Stop
	release func()   // gives the directory back; nil after Close
}

// Start runs a server for one test and stops it at the test's end. When the test has failed, the end of the
// server's log is part of the test's output.
func Start(tb testing.TB, options Options) *Server {
	tb.Helper()
	server, err := Launch(options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the PostgreSQL server's log:\n%s", server.LogTail())
		}
		if err := server.Close(); err != nil {
			tb.Error(err)
		}
	})
	return server
}

// Launch runs a server and returns when it accepts connections. The caller has to [Server.Close] it.
func Launch(options Options) (*Server, error) {
	install := options.Install
	if install.BinDir == "" {
		var err error
		if install, err = Distribution(); err != nil {
			return nil, err
		}
	}
	runAs, err := unprivileged()
	if err != nil {
		return nil, err
	}
	directory, release, err := newDirectory()
	if err != nil {
		return nil, err
	}
	s := &Server{
		SocketDir: directory,
		DataDir:   filepath.Join(directory, "data"),
		LogPath:   filepath.Join(directory, "log"),
		Port:      5432, // of the socket only
		account:   runAs,
		tcp:       options.TCP,
		release:   release,
	}
	if s.install, err = install.reachable(runAs); err == nil {
		err = s.create(options)
	}
	if err == nil {
		err = s.startOnFreePort()
	}
	if err != nil {
		err = fmt.Errorf("start a PostgreSQL server for a test: %w", err)
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// startOnFreePort starts the process. A port that was free a moment ago may be taken by now: with TCP it tries
// again with others.
func (s *Server) startOnFreePort() error {
	const tries = 5
	for try := 1; ; try++ {
		if s.tcp {
			port, err := freePort()
			if err != nil {
				return err
			}
			s.Port = port
		}
		s.SocketPath = filepath.Join(s.SocketDir, ".s.PGSQL."+strconv.Itoa(s.Port))
		err := s.start()
		if err == nil || !s.tcp || try == tries || !strings.Contains(s.LogTail(), "could not bind") {
			return err
		}
	}
}

// start runs postgres. The caller holds the mutex, or nobody else knows the server yet.
func (s *Server) start() error {
	listen := ""
	if s.tcp {
		listen = "127.0.0.1"
	}
	process, err := startProcess(processSpec{
		program: filepath.Join(s.install.BinDir, "postgres"),
		args: []string{"-D", s.DataDir, "-k", s.SocketDir, "-p", strconv.Itoa(s.Port),
			"-c", "listen_addresses=" + listen},
		dataDir: s.DataDir,
		logPath: s.LogPath,
		account: s.account,
	})
	if err != nil {
		return fmt.Errorf("%w; its log ends with:\n%s", err, s.LogTail())
	}
	s.process = process
	return nil
}

// freePort asks the kernel for a port of the loopback address that nobody uses right now.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// Stop ends the server in PostgreSQL's fast way: sessions are ended, data stays. A stopped server may be
// started again by [Server.Restart]. Stopping twice is no error.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop()
}

func (s *Server) stop() error {
	process := s.process
	s.process = nil
	if process == nil {
		return nil
	}
	return process.stop()
}

// Restart stops the server if it runs, and starts it on the same socket and port with the same data.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(); err != nil {
		return err
	}
	return s.start()
}

// Close stops the server and removes its directory. The server can't be used afterwards. Closing twice is no
// error.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.stop()
	if s.release != nil {
		s.release()
		s.release = nil
	}
	return err
}

// PID is the postmaster's process id, 0 when the server is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.pid
}

// DSN is a libpq connection string for the superuser over the unix socket, which goes past any proxy.
func (s *Server) DSN() string {
	return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s", s.SocketDir, s.Port, Superuser, Password, Database)
}

// Query runs one statement as the superuser over the unix socket and gives its rows as psql prints them
// unaligned: lines of columns, separated by "|". It is for looking at the server behind a proxy's back.
func (s *Server) Query(tb testing.TB, statement string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	result, err := Psql(ctx, nil, s.DSN(), "-v", "ON_ERROR_STOP=1", "-Atc", statement)
	if err != nil {
		tb.Fatal(err)
	}
	if result.ExitCode != 0 {
		tb.Fatalf("query %q: %s", statement, result.Stderr)
	}
	return strings.TrimSuffix(result.Stdout, "\n")
}

// LogTail returns the last 4 KiB of the server's log.
func (s *Server) LogTail() string {
	const tail = 4 << 10
	text, err := os.ReadFile(s.LogPath)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-tail):])
}
