package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
			err := Check(keyInfo{mode, &syscall.Stat_t{Uid: uint32(row.owner)}}, row.uid)
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
		{keyInfo{0o644, &syscall.Stat_t{Uid: 7}}, "has group or world access (mode 0644); chmod 0600 it, or in a Kubernetes volume set defaultMode: 0400"},
		{keyInfo{0o644, &syscall.Stat_t{Uid: 0}}, "is owned by root, and may be readable only by its group (mode 0644); chmod 0640 it, or in a Kubernetes volume set defaultMode: 0440 and the pod's fsGroup"},
		{keyInfo{0o600, &syscall.Stat_t{Uid: 8}}, "must be owned by the user of this process (uid 7) or root, not by uid 8; chown it"},
		{keyInfo{fs.ModeDir | 0o700, &syscall.Stat_t{Uid: 7}}, "is not a regular file (d---------)"},
		{keyInfo{fs.ModeNamedPipe | 0o600, &syscall.Stat_t{Uid: 7}}, "is not a regular file (p---------)"},
		{keyInfo{0o600, nil}, "has an owner that is unknown on this system"},
	} {
		if err := Check(row.info, 7); err == nil || err.Error() != row.want {
			t.Errorf("got %v, want %s", err, row.want)
		}
	}
}

func TestFileThatOthersCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
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
			text, err := Read(name, 6)
			if (err == nil) != good || (string(text) == "secret") != good {
				t.Errorf("mode %04o: %q, %v", mode, text, err)
			}
			if want := fmt.Sprintf("%s has group or world access (mode %04o); chmod 0600 it, or in a Kubernetes volume set defaultMode: 0400", name, mode); !good && err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}

func TestWhatIsNoSecretFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "none"), 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Read(dir, 100); err == nil || err.Error() != dir+" is not a regular file (d---------)" {
		t.Errorf("a directory: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(pipe, 100); err == nil || err.Error() != pipe+" is not a regular file (p---------)" {
		t.Errorf("a pipe: %v", err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, make([]byte, 101), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := Read(long, 101); err != nil || len(text) != 101 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if text, err := Read(long, 100); err == nil || text != nil || err.Error() != long+" has more than 100 bytes; give the file that holds the secret" {
		t.Errorf("too long: %v", err)
	}
}

// A check of the path and a read of the path are two looks, between which the path can come to lead elsewhere.
func TestWhatIsReadIsWhatWasChecked(t *testing.T) {
	dir := t.TempDir()
	own, open := filepath.Join(dir, "own"), filepath.Join(dir, "open")
	if err := errors.Join(os.WriteFile(own, []byte("own"), 0o600), os.WriteFile(open, []byte("open"), 0o600), os.Chmod(open, 0o644)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "path")
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		fresh := filepath.Join(dir, "fresh")
		for {
			for _, target := range []string{own, open} {
				if err := errors.Join(os.Symlink(target, fresh), os.Rename(fresh, path)); err != nil {
					done <- err
					return
				}
			}
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
		}
	}()
	for range 3000 {
		if text, err := Read(path, 100); err == nil && string(text) != "own" {
			t.Errorf("a file that others can read gave %q", text)
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A token or a password that was saved on Windows begins with a byte order mark, which is no part of it.
func TestMarkInFrontOfASecretIsSkipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for text, want := range map[string]string{"\ufeffsecret\n": "secret\n", "\ufeff": "", "secret\ufeff": "secret\ufeff"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path, 100); err != nil || string(got) != want {
			t.Errorf("%q gives %q, %v", text, got, err)
		}
	}
}
