// Package acmetest starts what a test of ACME needs on loopback: Pebble, the certificate authority that Let's Encrypt
// maintains for tests; BIND with a zone that takes dynamic updates (RFC 2136); and a proxy in front of Pebble that
// makes it fail in the ways that real authorities do.
//
// Pebble is built from tools/pebble, a module of its own, so that the product does not depend on it. BIND is the
// distribution's (make setup installs it), and runs as another user when the test is root. Each test gets its own
// processes with their own ports and directories, and they end with it.
package acmetest

// T is what these programs need of the test that they run for. Every testing.TB has it, and the demo has one of its own:
// Fatal must not return.
type T interface {
	Helper()
	Error(args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Failed() bool
	Cleanup(f func())
	TempDir() string
}
