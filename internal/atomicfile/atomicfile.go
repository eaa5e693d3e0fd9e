// Package atomicfile writes files so that a reader, and a start after a loss of power, finds the old one or the new one, each
// whole.
//
// It knows nothing of what is in them, and has no lock: whoever writes the same file from two places has to agree with
// himself. The publisher of a policy has its own way (policysync), since there several files belong together.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file with exactly this mode, in place of the one that is there or not. When it gives nil, a loss of
// power does not undo it. Another error than that of the last step leaves the old file.
func Replace(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDirectory(filepath.Dir(path))
}

// SyncDirectory makes what was renamed, made or removed in a directory last.
func SyncDirectory(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
