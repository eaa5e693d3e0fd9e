package main

import (
	"runtime"
	"syscall"

	"pgmtls-proxy/internal/admin"
	"pgmtls-proxy/internal/session"
)

// What the process needs descriptors for besides connections.
const (
	// ownDescriptors are open all the time: standard streams, Go's poller, the watch of the policy, the sockets for admin,
	// takeover and supervisor, and a few to spare. Listeners and event loops come on top.
	ownDescriptors = 16
	// reading is what a look at the policy and a takeover have open at once, with a few to spare.
	reading = 12
)

// shares say what the descriptors of the process are for. What takes away has its own: however many clients there are, a policy
// can be read, a session ended, a query cancelled and the operator answered.
type shares struct {
	sessions             int // at once; each has two descriptors
	unfinished           int // connections beyond them; each has one
	unfinishedPerAddress int // 0: no bound
	cancels, ownCancels  int // at the backend at once
	admin                int // connections to the admin address
}

// share divides a limit on open files. The configuration gets what it asks for if there is enough for it, and at least one session.
func share(limit uint64, listeners, sessions, unfinishedPerAddress int) shares {
	left := max(int(min(limit, 1<<30))-ownDescriptors-listeners-2*runtime.GOMAXPROCS(0), 16)
	s := shares{cancels: min(max(left/12, 2), session.MaxCancels), ownCancels: min(max(left/12, 2), session.MaxOwnCancels), admin: min(max(left/8, 8), admin.MaxConns)}
	left -= s.cancels + s.ownCancels + s.admin + min(max(left/6, 6), reading)
	s.unfinished = max(min(unfinished, max(left/4, left-2*sessions)), 2)
	s.sessions = max(min(sessions, (left-s.unfinished)/2), 1)
	if unfinishedPerAddress > 0 {
		s.unfinishedPerAddress = max(min(unfinishedPerAddress, s.unfinished/2), 1) // one address leaves room for others
	}
	return s
}

// openFiles is the limit on open descriptors. Go has raised it as far as the process may.
func openFiles() uint64 {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0
	}
	return uint64(files.Cur)
}
