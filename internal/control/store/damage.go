package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap/zapcore"
)

// ErrDamaged: the files of the etcd inside this process can't be read. Match it with errors.Is.
var ErrDamaged = errors.New("the store is damaged")

// damage returns what is wrong with the files below a data directory, and what to do. It advises to delete nothing:
// what is there may be the only copy of something.
type damage struct {
	dir   string
	cause error
}

func (d *damage) Error() string {
	return fmt.Sprintf("the store in %s is damaged: %v; move the directory away, keep it, and restore the last snapshot there (pgmtls snapshot restore, see docs/control-plane.md#restore); the proxies keep serving meanwhile", d.dir, d.cause)
}

func (d *damage) Unwrap() []error { return []error{ErrDamaged, d.cause} }

// Exists reports whether a data directory has a store, whole or damaged. An error is that of looking.
func Exists(dataDir string) (bool, error) {
	_, err := os.Stat(memberDir(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func memberDir(dataDir string) string    { return filepath.Join(dataDir, "member") }
func databasePath(dataDir string) string { return filepath.Join(memberDir(dataDir), "snap", "db") }

// examine looks at the files before etcd opens them: it would take what is missing for a new store, and the library of
// its database panics at pages that it can't read, in a goroutine of its own.
func examine(dataDir string) error {
	exists, err := Exists(dataDir)
	if err != nil || !exists {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(memberDir(dataDir), "wal", "*.wal"))
	if err != nil {
		return err
	}
	info, err := os.Stat(databasePath(dataDir))
	hasDatabase := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case !hasDatabase && len(logs) == 0:
		// A first start that was killed has made directories only; anything else has lost everything.
		return onlyDirectories(dataDir)
	case !hasDatabase:
		return fmt.Errorf("%s is missing", databasePath(dataDir))
	case len(logs) == 0:
		return fmt.Errorf("%s has no write-ahead log", filepath.Join(memberDir(dataDir), "wal"))
	}
	if err := examineDatabase(databasePath(dataDir), info.Size()); err != nil {
		return fmt.Errorf("%s: %w", databasePath(dataDir), err)
	}
	return nil
}

func onlyDirectories(dataDir string) error {
	return filepath.WalkDir(memberDir(dataDir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".tmp") {
			return err
		}
		return fmt.Errorf("it has %s, but neither a database nor a write-ahead log", path)
	})
}

// openTimeout bounds waiting for the lock of the database, which is taken by no other daemon here.
const openTimeout = 5 * time.Second

// examineDatabase reads every page in use, as etcd is about to, where a panic can be caught. A page that is not in the
// file any more is a fault of the memory map.
func examineDatabase(path string, size int64) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("a page can't be read (%v)", problem)
		}
	}()
	database, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: openTimeout})
	if err != nil {
		return err
	}
	defer func() { _ = database.Close() }() // it was only read
	return database.View(func(tx *bolt.Tx) error {
		if tx.Size() > size {
			return fmt.Errorf("it has %d bytes of %d", size, tx.Size())
		}
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			var last []byte
			return bucket.ForEach(func(key, _ []byte) error {
				if last != nil && bytes.Compare(last, key) >= 0 {
					return fmt.Errorf("the keys of bucket %q are out of order", name)
				}
				last = key
				return nil
			})
		})
	})
}

// fatal is what etcd's logger does after a message that ends the program in etcd's own: it hands the cause on and ends
// the goroutine, so that the program says in one line what a person has to do.
type fatal chan<- error

// OnWrite implements [zapcore.CheckWriteHook].
func (f fatal) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	cause := errors.New(entry.Message)
	if i := slices.IndexFunc(fields, func(field zapcore.Field) bool { return field.Type == zapcore.ErrorType }); i >= 0 {
		if err, ok := fields[i].Interface.(error); ok {
			cause = fmt.Errorf("%s: %w", entry.Message, err)
		}
	}
	select {
	case f <- cause:
	default: // only the first one tells what happened
	}
	select {} // the goroutine must not go on with what it can't keep
}
