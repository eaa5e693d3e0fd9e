package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestFileIsReplacedWholeWithItsMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, mode := range []fs.FileMode{0o644, 0o600} {
		if err := Replace(path, []byte(mode.String()), mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		text, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || info.Mode() != mode || string(text) != mode.String() {
			t.Errorf("got mode %v, %q, %v, %v, want mode %v", info.Mode(), text, err, readErr, mode)
		}
	}
	only(t, dir, "file")
}

func TestFileThatCanNotBeReplacedLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "taken", "by a directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "taken"), nil, 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if err := Replace(filepath.Join(dir, "none", "file"), nil, 0o600); err == nil {
		t.Error("a file was written where no directory is")
	}
	only(t, dir, "taken")
}

// only wants one entry in a directory.
func only(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}
