package seal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// keyInfo is the info of a file that need not exist.
type keyInfo struct {
	mode fs.FileMode
	sys  any
}

func (i keyInfo) Name() string       { return "master.key" }
func (i keyInfo) Size() int64        { return 1 }
func (i keyInfo) Mode() fs.FileMode  { return i.mode }
func (i keyInfo) ModTime() time.Time { return time.Time{} }
func (i keyInfo) IsDir() bool        { return i.mode.IsDir() }
func (i keyInfo) Sys() any           { return i.sys }

func TestKeyModesAreThoseOfPostgreSQL(t *testing.T) {
	const us, root, other = 1000, 0, 1001
	for mode := range fs.FileMode(0o1000) {
		for _, row := range []struct {
			owner, uid int
			want       bool
		}{
			{us, us, mode&0o077 == 0},
			{root, us, mode&^0o740 == 0},
			{root, root, mode&0o077 == 0},
			{other, us, false},
			{us, root, false},
		} {
			err := checkMode(keyInfo{mode, &syscall.Stat_t{Uid: uint32(row.owner)}}, row.uid)
			if (err == nil) != row.want {
				t.Errorf("mode %04o, owner %d, read by %d: %v", mode, row.owner, row.uid, err)
			}
		}
	}
}

func TestKeyModeSaysWhatToDo(t *testing.T) {
	for _, row := range []struct {
		info keyInfo
		want string
	}{
		{keyInfo{0o644, &syscall.Stat_t{Uid: 7}}, "has group or world access (mode 0644); chmod 0600 it"},
		{keyInfo{0o644, &syscall.Stat_t{Uid: 0}}, "owned by root, may be read by its group and no more (mode 0644); chmod 0640 it"},
		{keyInfo{0o600, &syscall.Stat_t{Uid: 8}}, "must be owned by the daemon's user (uid 7) or root, not by uid 8; chown it"},
		{keyInfo{fs.ModeNamedPipe | 0o600, &syscall.Stat_t{Uid: 7}}, "not a regular file"},
		{keyInfo{0o600, nil}, "the owner of the file is unknown on this system"},
	} {
		if err := checkMode(row.info, 7); err == nil || err.Error() != row.want && !strings.HasPrefix(err.Error(), row.want+" (") {
			t.Errorf("got %v, want %s", err, row.want)
		}
	}
}

func TestKeyFileThatOthersCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(path, Generate(), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(filepath.Dir(path), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o644: false, 0o660: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, link} {
			ring, err := LoadRing(name)
			if (err == nil) != good || (ring != nil) != good {
				t.Errorf("mode %04o: %v", mode, err)
			}
			if !good && !strings.Contains(err.Error(), name) {
				t.Errorf("%v does not name the file", err)
			}
		}
	}
}

func TestWhatIsNoKeyFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadRing(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := LoadRing(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRing(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("bad\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRing(bad); err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a bad key: %v", err)
	}
}
