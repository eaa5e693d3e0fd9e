package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"pgmtls-proxy/internal/secretfile"
)

// Bounds of the files of a policy, in bytes. A revocation list with 100,000 entries has 5 MB in PEM, and 10 MB if each entry says more than
// its serial.
const (
	maxFile     = 1 << 20
	maxList     = 16 << 20 // a revocation list
	maxAllLists = 32 << 20 // all of them
)

// settled is how long ago a file must have changed to count as complete, where the system can't say whether somebody
// has it open for writing.
const settled = 300 * time.Millisecond

// openedFile is what one look at a file gave.
type openedFile struct {
	text    []byte
	writing bool // somebody may not have finished it
}

// kind is what a file of a policy holds.
type kind uint8

const (
	publicFile kind = iota // the policy itself, certificates
	listFile               // revocation lists
	keyFile                // a private key, which others must not be able to read
)

// readFile reads a file of a policy.
func readFile(path string, what kind) ([]byte, error) {
	file, err := openAndRead(path, what)
	return file.text, err
}

// openAndRead reads a file, and judges the file that it has read: type, size, mode and owner are those of the opened
// descriptor. An error has no path, except that a missing file's and a forbidden file's satisfy errors.Is.
func openAndRead(path string, what kind) (openedFile, error) {
	// O_NONBLOCK: the open of a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return openedFile{}, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return openedFile{}, bare(err)
	case !info.Mode().IsRegular():
		return openedFile{}, fmt.Errorf("it is not a regular file (%v)", info.Mode().Type())
	case what == keyFile:
		if err := secretfile.Check(info, os.Geteuid()); err != nil {
			return openedFile{}, fmt.Errorf("private key file %w", err)
		}
	}
	limit := int64(maxFile)
	if what == listFile {
		limit = maxList
	}
	text := bytes.NewBuffer(make([]byte, 0, min(max(info.Size(), 0), limit)+bytes.MinRead)) // not twice as much while it grows
	_, err = text.ReadFrom(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return openedFile{}, bare(err)
	case int64(text.Len()) > limit:
		return openedFile{}, fmt.Errorf("it is larger than %d KiB", limit>>10)
	}
	return openedFile{text.Bytes(), beingWritten(f)}, nil
}

// bare takes the path out of an error: the problem that it goes into names the file.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// beingWritten is asked after the file was read: a writer that was there before and has gone has left something else
// than what was read, and the next look sees it.
func beingWritten(f *os.File) bool {
	if open, known := openForWriting(f); known {
		return open
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	return fresh(info.ModTime(), time.Now())
}

// fresh reports whether a file changed so shortly ago that its writer may not be done. One from the future, as a clock
// that is wrong gives, is not: it would be fresh forever.
func fresh(changed, now time.Time) bool {
	age := now.Sub(changed)
	return age >= 0 && age < settled
}
