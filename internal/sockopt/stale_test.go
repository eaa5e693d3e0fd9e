package sockopt

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlySocketFilesWithoutAnAnswerAreRemoved(t *testing.T) {
	dir := t.TempDir()
	stale, live, file, link := filepath.Join(dir, "stale"), filepath.Join(dir, "live"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	for _, path := range []string{stale, live} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if path == stale {
			l.Close()
		} else {
			defer l.Close()
		}
	}
	if err := errors.Join(os.WriteFile(file, []byte("kept"), 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	if err := RemoveStale("unix", filepath.Join(dir, "none")); err != nil {
		t.Errorf("where nothing is: %v", err)
	}
	if err := RemoveStale("unix", live); !errors.Is(err, ErrAnswered) {
		t.Errorf("where a process answers: %v", err)
	}
	for _, path := range []string{file, link} {
		if err := RemoveStale("unix", path); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("the file is gone: %v", err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
	if err := RemoveStale("unix", stale); err != nil {
		t.Errorf("a socket that a killed process left: %v", err)
	}
	if _, err := os.Lstat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
