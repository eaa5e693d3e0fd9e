package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// write is one file to write.
type write struct {
	path    string
	content []byte
	mode    os.FileMode
}

// writeAll writes files by renaming, so that nobody ever reads half of one. A file that is there and has the same
// content stays; any other stops everything before the first is written, unless force.
func writeAll(dir string, writes []write, force bool) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the directory: %w", err)
	}
	var wanted []write
	var inTheWay []string
	for _, w := range writes {
		there, err := os.Lstat(w.path)
		if err == nil && same(w, there) {
			continue
		}
		if err == nil && !force {
			inTheWay = append(inTheWay, "  "+w.path)
		}
		wanted = append(wanted, w)
	}
	if len(inTheWay) > 0 {
		return fmt.Errorf("these files already exist and differ:\n%s\nNothing was written. Choose another --prefix or --dir, or overwrite them with --force",
			strings.Join(inTheWay, "\n"))
	}
	for _, w := range wanted {
		if err := replace(dir, w); err != nil {
			return err
		}
	}
	return nil
}

// same reports whether a file is already what it is to become.
func same(w write, there os.FileInfo) bool {
	if !there.Mode().IsRegular() || there.Size() != int64(len(w.content)) || there.Mode().Perm()&^w.mode != 0 {
		return false
	}
	text, err := os.ReadFile(w.path)
	return err == nil && string(text) == string(w.content)
}

// replace puts a file in place as a whole, with its mode from the first byte on.
func replace(dir string, w write) (err error) {
	file, err := os.CreateTemp(dir, ".pgmtls-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	defer func() {
		if err != nil {
			file.Close()
			err = fmt.Errorf("write %s: %w", w.path, errors.Join(err, os.Remove(file.Name())))
		}
	}()
	if _, err := file.Write(w.content); err != nil {
		return err
	}
	if err := file.Chmod(w.mode); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), w.path)
}
