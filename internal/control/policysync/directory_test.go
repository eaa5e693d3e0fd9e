package policysync

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/must"
)

func TestAMissingDirectoryIsMadeInAParentOfOurs(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	c := &Publisher{Database: database, Dir: filepath.Join(t.TempDir(), "policy")}
	_, err := c.Publish(t.Context(), policytest.NewSpace(t).Policy(t, edition{Generation: 1}))
	must.OK(t, err)
	info, err := os.Stat(c.Dir)
	must.OK(t, err)
	if info.Mode().Perm() != 0o750 {
		t.Errorf("it has mode %04o", info.Mode().Perm())
	}
	for _, name := range names(t, c.Dir) {
		info, err := os.Stat(filepath.Join(c.Dir, name))
		must.OK(t, err)
		want := fs.FileMode(0o644)
		if policyformat.IsKey(name) {
			want = 0o600
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestADirectoryThatOthersCouldChangeIsRefused(t *testing.T) {
	p := policytest.NewSpace(t).Policy(t, edition{Generation: 1})
	for name, c := range map[string]struct {
		prepare func(dir string) (policyDir string)
		want    string
	}{
		"writable by the group": {func(dir string) string { must.OK(t, os.Chmod(dir, 0o770)); return dir }, "chmod 0750"},
		"writable by all":       {func(dir string) string { must.OK(t, os.Chmod(dir, 0o777|fs.ModeSticky)); return dir }, "chmod 0750"},
		"missing, in one writable by all": {func(dir string) string {
			must.OK(t, os.Chmod(dir, 0o777))
			return filepath.Join(dir, "policy")
		}, "its parent is writable"},
		"missing, with its parent": {func(dir string) string { return filepath.Join(dir, "a", "b") }, "nor its parent exists"},
		"a file": {func(dir string) string {
			must.OK(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
			return filepath.Join(dir, "f")
		}, "not a directory"},
		"a volume of Kubernetes": {func(dir string) string { must.OK(t, os.Symlink("..1", filepath.Join(dir, "..data"))); return dir }, "Kubernetes"},
		"no name":                {func(string) string { return "" }, "no policy directory"},
	} {
		t.Run(name, func(t *testing.T) {
			courier := &Publisher{Database: database, Dir: c.prepare(t.TempDir())}
			_, err := courier.Publish(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want something with %q", err, c.want)
			}
			if seen, _ := courier.drift(); seen != 0 {
				t.Error("it was published")
			}
		})
	}
}

// info is a directory that need not exist.
type info struct {
	fs.FileInfo
	mode     fs.FileMode
	uid, gid uint32
}

func (i info) Mode() fs.FileMode { return i.mode }
func (i info) Sys() any          { return &syscall.Stat_t{Uid: i.uid, Gid: i.gid} }

func TestWhoseFilesAreFollowsTheDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		dir  info
		uid  int
		want owner
		err  string
	}{
		"ours":                           {info{mode: fs.ModeDir | 0o750, uid: 70, gid: 70}, 70, owner{70, 70, false, 0o600}, ""},
		"the proxy's, and we are root":   {info{mode: fs.ModeDir | 0o700, uid: 70, gid: 71}, 0, owner{70, 71, true, 0o600}, ""},
		"root's with the proxy's group":  {info{mode: fs.ModeDir | 0o750, uid: 0, gid: 70}, 0, owner{0, 70, true, 0o640}, ""},
		"root's alone":                   {info{mode: fs.ModeDir | 0o755, uid: 0, gid: 0}, 0, owner{0, 0, true, 0o600}, ""},
		"root's, closed to its group":    {info{mode: fs.ModeDir | 0o700, uid: 0, gid: 70}, 0, owner{0, 70, true, 0o600}, ""},
		"somebody else's":                {info{mode: fs.ModeDir | 0o750, uid: 71, gid: 70}, 70, owner{}, "belongs to uid 71"},
		"root's, and we are not root":    {info{mode: fs.ModeDir | 0o755, uid: 0, gid: 70}, 70, owner{}, "belongs to uid 0"},
		"ours, and writable by a group":  {info{mode: fs.ModeDir | 0o770, uid: 70, gid: 70}, 70, owner{}, "chmod 0750"},
		"root's, and writable by others": {info{mode: fs.ModeDir | 0o757, uid: 0, gid: 0}, 0, owner{}, "chmod 0750"},
	} {
		got, err := newOwner(c.dir, c.uid)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// nobody is a user that exists nowhere.
const nobody = 64_123

func TestAsRootTheProxysUserGetsWhatItNeeds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	must.OK(t, os.Chmod(programDir, 0o755))
	for name, c := range map[string]struct{ uid, gid int }{"a directory of its own": {nobody, nobody}, "root's with its group": {0, nobody}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(openTemp(t), "policy")
			must.OK(t, os.Mkdir(dir, 0o750))
			must.OK(t, os.Chown(dir, c.uid, c.gid))
			p := startProxyAs(t, dir, nil, &syscall.Credential{Uid: nobody, Gid: nobody})
			s := policytest.NewSpace(t)
			reports := deliver(t, p.courier(), s.Policy(t, edition{Generation: 1}))
			if len(reports) == 0 || reports[len(reports)-1].Error != "" {
				t.Errorf("the proxy says %+v", reports)
			}
			seen, err := p.courier().Observe(t.Context())
			if err != nil || seen.Drift != "" {
				t.Errorf("observed %+v, %v", seen, err)
			}
		})
	}
}

func TestADirectoryThatRootMakesBelongsToWhomItsParentBelongs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	parent := t.TempDir()
	must.OK(t, os.Chown(parent, nobody, nobody+1))
	c := &Publisher{Database: database, Dir: filepath.Join(parent, "policy")}
	_, err := c.Publish(t.Context(), policytest.NewSpace(t).Policy(t, edition{Generation: 1}))
	must.OK(t, err)
	for _, path := range append([]string{"."}, names(t, c.Dir)...) {
		info, err := os.Stat(filepath.Join(c.Dir, path))
		must.OK(t, err)
		if stat := info.Sys().(*syscall.Stat_t); stat.Uid != nobody || stat.Gid != nobody+1 {
			t.Errorf("%s belongs to %d:%d", path, stat.Uid, stat.Gid)
		}
	}
}

func TestOneCourierWaitsForAnother(t *testing.T) {
	p := policytest.NewSpace(t).Policy(t, edition{Generation: 1})
	c := &Publisher{Database: database, Dir: t.TempDir()}
	held, err := openDirectory(c.Dir)
	must.OK(t, err)
	defer held.close()
	must.OK(t, held.lock(t.Context()))

	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("enough"))
	defer cancel()
	if _, err := c.Publish(ctx, p); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Fatalf("while the lock is held: %v", err)
	}
	published := make(chan error, 1)
	go func() {
		_, err := c.Publish(t.Context(), p)
		published <- err
	}()
	held.close()
	must.OK(t, <-published)
}

func TestWhatHasEndedPublishesNothing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	c := &Publisher{Database: database, Dir: filepath.Join(t.TempDir(), "policy")}
	if _, err := c.Publish(ctx, policytest.NewSpace(t).Policy(t, edition{Generation: 1})); err == nil || err.Error() != "over" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it made the directory")
	}
}

// The first policy makes the directory. That it is not there before is nobody's doing.
func TestADirectoryThatIsStillToBeMadeHasNotDrifted(t *testing.T) {
	c := &Publisher{Database: "db", Dir: filepath.Join(t.TempDir(), "policy")}
	if onDisk, drift := c.drift(); onDisk != 0 || drift != "" {
		t.Errorf("got generation %d, drift %q", onDisk, drift)
	}
	if err := os.WriteFile(c.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, drift := c.drift(); drift == "" {
		t.Error("a file where the directory should be is no drift")
	}
}
