package policysync

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"syscall"

	"pgmtls-proxy/internal/control/policyformat"
)

// file is one that lies in the directory.
type file struct {
	content []byte
	mode    fs.FileMode
	uid     int
	gid     int
}

// read reads a regular file of at most policyformat.MaxFile bytes. What is missing satisfies errors.Is(err, fs.ErrNotExist).
func (d *directory) read(name string) (file, error) {
	// O_NONBLOCK: the open of a named pipe would wait for its writer.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return file{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return file{}, err
	}
	link, err := d.root.Lstat(name)
	if err != nil {
		return file{}, err
	}
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known || !info.Mode().IsRegular() || !os.SameFile(link, info) {
		return file{}, fmt.Errorf("%s is not a regular file (%v)", name, link.Mode().Type())
	}
	content, err := io.ReadAll(io.LimitReader(f, policyformat.MaxFile+1))
	if err == nil && len(content) > policyformat.MaxFile {
		err = fmt.Errorf("%s is larger than %d KiB", name, policyformat.MaxFile>>10)
	}
	return file{content, info.Mode().Perm(), int(stat.Uid), int(stat.Gid)}, err
}

// has reports whether a file lies there as it should, to the last bit of its mode.
func (d *directory) has(name string, content []byte) bool {
	f, err := d.read(name)
	return err == nil && string(f.content) == string(content) && d.misfit(name, f) == ""
}

// misfit returns what is wrong with a file's mode or owner, as the rest of a sentence.
func (d *directory) misfit(name string, f file) string {
	switch {
	case f.mode != d.owner.mode(name):
		return fmt.Sprintf("has mode %04o instead of %04o", f.mode, d.owner.mode(name))
	case f.uid != d.owner.uid:
		return fmt.Sprintf("belongs to uid %d instead of %d", f.uid, d.owner.uid)
	case d.owner.keys&0o040 != 0 && f.gid != d.owner.gid:
		return fmt.Sprintf("belongs to group %d instead of %d", f.gid, d.owner.gid)
	}
	return ""
}

// write puts a file into place by a rename. Its content is on disk before its name is: after a loss of power the name
// stands for the old file or for the whole new one, and not for an empty one.
func (d *directory) write(name string, content []byte) error {
	random := make([]byte, 8)
	rand.Read(random)
	temporary := temporaryStart + hex.EncodeToString(random) + temporaryEnd
	if err := d.fill(temporary, content, d.owner.mode(name)); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), d.discard(temporary))
	}
	if err := d.root.Rename(temporary, name); err != nil {
		return errors.Join(fmt.Errorf("move %s into place: %w", name, err), d.discard(temporary))
	}
	return nil
}

// discard removes what a failed write has left. That nothing can be changed here, the write has said already.
func (d *directory) discard(temporary string) error {
	err := d.root.Remove(temporary)
	if errors.Is(err, syscall.EROFS) {
		return nil
	}
	return ignoreMissing(err)
}

// fill makes a file of nobody else's before it has content, and wider than 0600 only when it has its owner.
func (d *directory) fill(name string, content []byte, mode fs.FileMode) (err error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if d.owner.give {
		if err := f.Chown(d.owner.uid, d.owner.gid); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// sync puts the names in the directory on disk.
func (d *directory) sync() error {
	if err := d.self.Sync(); err != nil {
		return fmt.Errorf("sync the policy directory %s: %w", d.path, err)
	}
	return nil
}

const (
	temporaryStart = ".pgmtls-"
	temporaryEnd   = ".tmp"
)

var temporaryPattern = regexp.MustCompile(`^\.pgmtls-[0-9a-f]{16}\.tmp$`)

// useless lists the files of ours that nothing needs: temporary ones of a process that was killed, and files with the
// name of their content that are not among those to keep. Everything else in the directory is somebody else's. The
// lock is held, so no temporary file is in use.
func (d *directory) useless(keep func(name string) bool) ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list the policy directory: %w", err)
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		if !entry.Type().IsRegular() || keep(name) {
			continue
		}
		if temporaryPattern.MatchString(name) {
			names = append(names, name)
		} else if policyformat.IsName(name) {
			if f, err := d.read(name); err == nil && policyformat.IsNameOf(name, f.content) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// sweep removes what is useless, once what replaced it is on disk: a policy.yaml that comes back after a loss of power
// must find its files.
func (d *directory) sweep(keep func(name string) bool) error {
	names, err := d.useless(keep)
	if err != nil || len(names) == 0 {
		return err
	}
	if err := d.sync(); err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, ignoreMissing(d.root.Remove(name)))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("remove files that the policy no longer names: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
