package policy

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openForWriting reports whether any process has the file open for writing, and whether the system could tell.
//
// A read lease is granted only on a file without a writer (fcntl(2), F_SETLEASE). It is for the file's owner and for
// CAP_LEASE; for others, and on some network file systems, the answer is unknown. The lease is given back at once.
// Should a writer come in between, the kernel lets it wait and sends SIGIO, which Go's runtime takes note of and drops.
func openForWriting(f *os.File) (open, known bool) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return false, err == nil
	}
	return true, errors.Is(err, unix.EAGAIN)
}
