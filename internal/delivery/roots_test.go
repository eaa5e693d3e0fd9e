package delivery

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPolicyDirectoryMustBeBelowARoot(t *testing.T) {
	base := t.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	for _, dir := range []string{root, outside, filepath.Join(root, "there")} {
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for dir, good := range map[string]bool{
		filepath.Join(root, "there"):           true,
		filepath.Join(root, "new", "er"):       true,
		root:                                   false,
		root + "er":                            false,
		outside:                                false,
		filepath.Join(root, "..", "outside"):   false,
		filepath.Join(root, "link"):            false,
		filepath.Join(root, "link", "new"):     false,
		filepath.Join(root, "new", "..", ".."): false,
		"policy":                               false,
		"/":                                    false,
	} {
		if err := CheckRoots(dir, []string{filepath.Join(base, "none"), root}); (err == nil) != good {
			t.Errorf("%s: got %v, want it to be good: %t", dir, err, good)
		}
	}
}
