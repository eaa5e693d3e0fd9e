package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// base is where servers live. It is not os.TempDir, and not testing's TempDir: the path of a unix socket may
// have 107 bytes at most (sun_path of unix(7)), and the server's account must be able to reach it.
const base = "/tmp"

const prefix = "pgtest."

// newDirectory makes a short directory that everyone can enter, locked for the life of this process, so that
// sweep can tell it from what a killed run left. Release removes it.
func newDirectory() (path string, release func(), err error) {
	sweepOnce.Do(sweep)
	path, err = os.MkdirTemp(base, prefix)
	if err != nil {
		return "", nil, err
	}
	lock, err := os.Create(filepath.Join(path, "lock"))
	if err == nil {
		err = errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX), os.Chmod(path, 0o755))
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("make a directory for a PostgreSQL server: %w", err), os.RemoveAll(path))
	}
	release = func() {
		// Nothing depends on the removal: what stays is swept by a later run.
		_ = os.RemoveAll(path)
		_ = lock.Close()
	}
	return path, release, nil
}

var sweepOnce sync.Once

// sweep removes directories of runs that were killed: those whose lock nobody holds. Young ones are left
// alone, since they may be about to be locked.
func sweep() {
	found, err := filepath.Glob(filepath.Join(base, prefix+"*"))
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, path := range found {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock, err := os.Open(filepath.Join(path, "lock"))
		if err != nil {
			continue // not ours to judge
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}

// copyTree copies a directory with its modes and owners; the target must not exist.
func copyTree(source, target string) error {
	if output, err := exec.Command("cp", "-a", source, target).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", source, err, output)
	}
	return nil
}
