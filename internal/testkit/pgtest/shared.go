package pgtest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// Shared is one server for all tests of a package, started by the first test that asks for it:
//
//	var postgres = pgtest.Shared{Options: pgtest.Options{TCP: true}}
//
//	func TestMain(m *testing.M) { postgres.Run(m) }
//
//	func TestX(t *testing.T) { server := postgres.Server(t) … }
type Shared struct {
	Options Options

	once   sync.Once
	server *Server
	err    error
}

// Server returns the package's server, started if it does not run yet. The test must not stop it.
func (s *Shared) Server(tb testing.TB) *Server {
	tb.Helper()
	s.once.Do(func() { s.server, s.err = Launch(s.Options) })
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.server
}

// Run runs the package's tests, then stops the server. It gives the code that the test program has to exit
// with; a TestMain that just returns exits with the code of the tests.
func (s *Shared) Run(m *testing.M) int {
	code := m.Run()
	if s.server == nil {
		return code
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "the PostgreSQL server's log:\n%s\n", s.server.LogTail())
	}
	if err := s.server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}
