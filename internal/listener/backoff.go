package listener

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"pgmtls-proxy/internal/retry"
)

// The bounds of the wait after a failed accept. The first is short, because a descriptor is soon free again on a
// busy server; the last bounds how long the port stays deaf after the shortage has ended.
const (
	backoffFirst = 5 * time.Millisecond
	backoffLast  = time.Second
)

// ofOneConnection are the errors that accept(2) passes on from the connection that it would have returned. Asking
// again at once is right, and can't spin: each such error used up a connection.
var ofOneConnection = []syscall.Errno{
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EPERM,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP,
}

// backoff is how long one listener waits after errors of accept. The zero value has seen none.
type backoff struct{ pauses retry.Backoff }

// after returns the wait after err. Shortages (EMFILE, ENFILE, ENOBUFS, ENOMEM) and whatever is not known to concern
// one connection only wait from 5 ms, doubled each time, to 1 s: an unknown error must not spin.
func (b *backoff) after(err error) time.Duration {
	if number, ok := errors.AsType[syscall.Errno](err); ok && slices.Contains(ofOneConnection, number) {
		return 0
	}
	b.pauses.First, b.pauses.Last = backoffFirst, backoffLast
	return b.pauses.Next()
}

// reset is told of a success.
func (b *backoff) reset() { b.pauses.Reset() }
