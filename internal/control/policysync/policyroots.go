package policysync

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Below returns a policy directory with symbolic links resolved, if it is below one of the roots. Whoever may name a directory
// through the API must not be able to have the daemon write anywhere else, perhaps as root. The directory itself need not
// exist yet. The error says what to do, and is for whoever named it.
func Below(roots []string, dir string) (string, error) {
	if !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0) || len(dir) > 4096 {
		return "", errors.New("it must be an absolute path")
	}
	real, err := resolved(filepath.Clean(dir))
	if err != nil {
		return "", err
	}
	for _, root := range roots {
		realRoot, err := filepath.EvalSymlinks(root)
		if err != nil {
			continue // a root that does not exist has nothing below it
		}
		if inside, err := filepath.Rel(realRoot, real); err == nil && filepath.IsLocal(inside) && inside != "." {
			return real, nil
		}
	}
	if len(roots) == 0 {
		return "", errors.New("this daemon has no policy_roots, so it writes no policies itself; use an agent")
	}
	return "", errors.New("it must be below one of the daemon's policy_roots (" + strings.Join(roots, ", ") + "), symbolic links followed")
}

// resolved follows symbolic links. The last part of the path need not exist yet.
func resolved(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		if info, err := os.Stat(real); err != nil || !info.IsDir() {
			return "", errors.New("it is not a directory")
		}
		return real, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("it can't be examined from this machine")
	}
	if _, err := os.Lstat(dir); err == nil {
		return "", errors.New("it is a dangling symbolic link")
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", errors.New("its parent directory does not exist; create it first")
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}
