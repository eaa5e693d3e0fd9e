package relay

import (
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The loop's system calls. None of them waits: the sockets are non-blocking, and epoll is asked with a timeout of zero.
// So the scheduler needs not be told before and after, which it would be by syscall.Read and its like: that costs as
// much as a small copy, twice per message, and wakes the runtime's monitor thread.

// pollEvents fills events with what is ready, if anything is.
func pollEvents(poll int, events []unix.EpollEvent) int {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(poll),
			uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case unix.EINTR:
		default:
			return 0 // EBADF, EINVAL: impossible while the loop lives
		}
	}
}

// socketFlags make recvfrom and sendto not wait, and a peer that is gone an error. The two calls ask fewer of the kernel's
// layers than read and write, which serve every kind of file.
const socketFlags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL

// receive reads once. The error is errWouldBlock if there is nothing, and [io.EOF] at the end of the stream.
func receive(fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), socketFlags, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, errWouldBlock
		case errno != 0:
			return 0, os.NewSyscallError("recvfrom", errno)
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// transmit writes once. A full socket takes 0 bytes, without an error.
func transmit(fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), socketFlags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, os.NewSyscallError("sendto", errno)
		}
	}
}
