package tlsconf

import (
	"fmt"
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

func (i keyInfo) Name() string       { return "server.key" }
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
			err := CheckKeyMode(keyInfo{mode, &syscall.Stat_t{Uid: uint32(row.owner)}}, row.uid)
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
		{keyInfo{0o644, &syscall.Stat_t{Uid: 7}}, "private key file has group or world access (mode 0644); chmod 0600 it"},
		{keyInfo{0o644, &syscall.Stat_t{Uid: 0}}, "private key file, owned by root, may be read by its group and no more (mode 0644); chmod 0640 it"},
		{keyInfo{0o600, &syscall.Stat_t{Uid: 8}}, "private key file must be owned by the proxy's user (uid 7) or root, not by uid 8; chown it"},
		{keyInfo{fs.ModeDir | 0o700, &syscall.Stat_t{Uid: 7}}, "private key file is not a regular file (d---------)"},
		{keyInfo{fs.ModeNamedPipe | 0o600, &syscall.Stat_t{Uid: 7}}, "not a regular file"},
		{keyInfo{0o600, nil}, "the owner of the private key file is unknown on this system"},
	} {
		if err := CheckKeyMode(row.info, 7); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("got %v, want %s", err, row.want)
		}
	}
}

func TestKeyModeReadsRealFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.key")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o644: false, 0o660: false} {
		t.Run(fmt.Sprintf("%04o", mode), func(t *testing.T) {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckKeyMode(info, os.Geteuid()); (err == nil) != good {
				t.Errorf("got %v", err)
			}
		})
	}
}
