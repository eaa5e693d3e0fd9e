package delivery

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// CheckRoots refuses a policy directory that is not below one of the roots, symbolic links resolved. Whoever may name
// a directory through the API must not be able to have the daemon write anywhere else. The directory need not exist.
func CheckRoots(dir string, roots []string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("policy directory %q is not an absolute path", dir)
	}
	resolved, err := resolve(filepath.Clean(dir))
	if err != nil {
		return fmt.Errorf("policy directory %q: %w", dir, err)
	}
	for _, root := range roots {
		base, err := resolve(filepath.Clean(root))
		if err == nil && strings.HasPrefix(resolved, strings.TrimSuffix(base, "/")+"/") {
			return nil
		}
	}
	return fmt.Errorf("policy directory %q is not below %s; use one that is, or add its parent to policy_roots of this node", dir, strings.Join(roots, " or "))
}

// resolve follows the symbolic links of a path as far as it exists.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return resolved, err
	}
	parent, name := filepath.Split(path)
	parent = filepath.Clean(parent)
	if parent == path {
		return "", err
	}
	if parent, err = resolve(parent); err != nil {
		return "", err
	}
	return filepath.Join(parent, name), nil
}
