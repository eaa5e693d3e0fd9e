package policysync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/retry"

	"golang.org/x/sys/unix"
)

// directory is an opened policy directory. All its files are reached through the one descriptor that was judged: a
// link that is swapped meanwhile, or one in a file's place, leads nowhere else.
type directory struct {
	path  string
	root  *os.Root
	self  *os.File // the directory itself: its lock, its fsync
	owner owner
}

// owner is who the files of a directory are to belong to.
type owner struct {
	uid, gid int
	give     bool        // they must be given to uid and gid: this process is root
	keys     fs.FileMode // of private keys
}

// kubernetesData is the link that a kubelet swaps in a volume. The proxy looks there first.
const kubernetesData = "..data"

// openDirectory opens an existing directory and judges it.
func openDirectory(path string) (*directory, error) {
	if path == "" {
		return nil, errors.New("no policy directory is given")
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the policy directory: %w", err)
	}
	d := &directory{path: path, root: root}
	if err := d.judge(); err != nil {
		d.close()
		return nil, fmt.Errorf("the policy directory %s %w", path, err)
	}
	return d, nil
}

func (d *directory) judge() error {
	var err error
	if d.self, err = d.root.Open("."); err != nil {
		return fmt.Errorf("can't be opened: %w", err)
	}
	info, err := d.self.Stat()
	if err != nil {
		return fmt.Errorf("can't be examined: %w", err)
	}
	if d.owner, err = newOwner(info, os.Geteuid()); err != nil {
		return err
	}
	if _, err := d.root.Lstat(kubernetesData); err == nil {
		return fmt.Errorf("is a volume that Kubernetes populates (it has %s), and the proxy would not see other files in it; use a separate directory", kubernetesData)
	}
	return nil
}

// newOwner judges a directory's owner and mode for a process that runs as uid. The error is the rest of a sentence.
//
// The proxy takes a private key from its own user with mode 0600, or from root with at most 0640 (secretfile.Check).
// So the directory's owner is the proxy's user, and the keys are that user's; or it is root, with the proxy's
// group, which may then read them.
func newOwner(info fs.FileInfo, uid int) (owner, error) {
	stat, known := info.Sys().(*syscall.Stat_t)
	mode := info.Mode()
	switch {
	case !known:
		return owner{}, errors.New("has an owner that this system does not report")
	case !mode.IsDir():
		return owner{}, errors.New("is not a directory")
	case mode.Perm()&0o022 != 0:
		return owner{}, fmt.Errorf("is writable by its group or by others (mode %04o), who could let anyone in; chmod 0750 it", mode.Perm())
	case uid != 0 && int(stat.Uid) != uid:
		return owner{}, fmt.Errorf("belongs to uid %d, and this process runs as uid %d: run it as that user or as root, or chown the directory", stat.Uid, uid)
	}
	o := owner{uid: int(stat.Uid), gid: int(stat.Gid), give: uid == 0, keys: 0o600}
	if stat.Uid == 0 && stat.Gid != 0 && mode.Perm()&0o050 == 0o050 {
		o.keys = 0o640
	}
	return o, nil
}

// mode is the one of a file: the directory's own mode says who gets at those that are not secret.
func (o owner) mode(name string) fs.FileMode {
	if policyformat.IsKey(name) {
		return o.keys
	}
	return 0o644
}

// makeDirectory makes a missing directory in a parent that is there and that nobody else can write to. It belongs to whom
// the parent belongs.
func makeDirectory(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == "" {
		return nil // whatever it is, opening tells
	}
	parent, err := openParent(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	info, err := parent.Stat(".")
	if err != nil {
		return fmt.Errorf("examine the parent of the policy directory: %w", err)
	}
	o, err := newOwner(info, os.Geteuid())
	if err != nil {
		return fmt.Errorf("the policy directory %s does not exist, and can't be created because its parent %w", path, err)
	}
	name := filepath.Base(path)
	err = parent.Mkdir(name, 0o700)
	if err == nil && o.give {
		err = parent.Lchown(name, o.uid, o.gid)
	}
	if err == nil {
		err = parent.Chmod(name, 0o750) // whatever the umask is
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create the policy directory: %w", err)
	}
	return nil
}

func openParent(path string) (*os.Root, error) {
	parent, err := os.OpenRoot(filepath.Dir(filepath.Clean(path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("neither the policy directory %s nor its parent exists: create it, owned by the proxy's user, with mode 0750", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the parent of the policy directory: %w", err)
	}
	return parent, nil
}

const (
	lockPause = 5 * time.Millisecond
	lockLimit = 10 * time.Second // writing takes milliseconds: whoever holds the lock longer is stuck
)

// lock waits until no other publisher, of this process or another, writes to the directory. The kernel lets go of it when
// a process is killed.
func (d *directory) lock(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lockLimit, fmt.Errorf("another process has been writing to it for %v", lockLimit))
	defer cancel()
	for {
		err := unix.Flock(int(d.self.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock the policy directory %s: %w", d.path, err)
		}
		if err := retry.Sleep(ctx, lockPause); err != nil {
			return fmt.Errorf("wait for the policy directory %s: %w", d.path, err)
		}
	}
}

// close also lets go of the lock.
func (d *directory) close() {
	if d.self != nil {
		d.self.Close()
	}
	d.root.Close()
}
