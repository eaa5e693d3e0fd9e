package main

import (
	"syscall"

	"pgmtls-proxy/internal/connlimit"
)

// Bounds of the open connections to each address of the API. An agent holds one; many may come from one address.
const (
	maxConns           = 4096
	maxConnsPerAddress = 1024
)

// Bounds of those whose client has not begun its first request: it may be anybody. A handshake with an agent's certificate has
// some 4 KiB, its ClientHello 2 KiB.
const (
	maxWaitingConns           = 512
	maxWaitingConnsPerAddress = 128
	maxHello                  = 8 << 10  // bytes before the daemon's first flight
	maxHandshake              = 40 << 10 // bytes in all; 16 KiB of them are read ahead
)

// ownDescriptors are for the store, which ends the process when it can't open its next file, for listeners, notices and what
// else is open all the time. A quarter of the limit comes on top, for policy directories and admin addresses.
const ownDescriptors = 64

// connections divides a limit on open files: it returns the bounds of each of some addresses of the API. What the daemon needs to
// take away has its own descriptors, however many connections there are.
func connections(descriptors uint64, addresses int) connlimit.Limits {
	left := int(min(descriptors, 1<<30))
	left -= ownDescriptors + left/4
	open := max(min(maxConns, left/max(addresses, 1)), 8)
	share := func(most int) int { return max(most*open/maxConns, 2) }
	return connlimit.Limits{
		Open: open, OpenPerAddress: share(maxConnsPerAddress), Waiting: share(maxWaitingConns), WaitingPerAddress: share(maxWaitingConnsPerAddress),
		Bytes: maxHandshake, Hello: maxHello,
	}
}

// openFiles is the limit on open descriptors. Go has raised it as far as the process may.
func openFiles() uint64 {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0
	}
	return uint64(files.Cur)
}
