package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A restore goes back to the last snapshot. Nobody may be sent there by a mount option or a file mode.
func TestStoreThatCanNotBeUsedIsNotCalledDamaged(t *testing.T) {
	for cause, remedy := range map[error]string{
		syscall.EROFS:  "mount its file system writable",
		syscall.EACCES: "owned by the daemon's user",
		syscall.EPERM:  "owned by the daemon's user",
		syscall.ENOSPC: "free some space",
		syscall.EDQUOT: "free some space",
		syscall.EMFILE: "raise the limit on open files",
	} {
		err := startError("/data/etcd", fmt.Errorf("cannot access data directory: %w", &fs.PathError{Op: "open", Path: "/data/etcd/x", Err: cause}))
		if errors.Is(err, ErrDamaged) || !errors.Is(err, cause) || !strings.Contains(err.Error(), remedy) || strings.Contains(err.Error(), "restore") {
			t.Errorf("%v: %v, want %q", cause, err, remedy)
		}
	}
	for _, cause := range []error{syscall.EIO, os.ErrNotExist, errors.New("a page can't be read")} {
		if err := startError("/data/etcd", cause); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}
