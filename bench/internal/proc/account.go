package proc

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Account is who runs the proxies. The zero value is whoever runs the bench.
type Account struct {
	credential *syscall.Credential // nil: the same as this process
}

// Unprivileged is the bench's own account, or nobody's when that is root: PgBouncer refuses to run as root.
func Unprivileged() (Account, error) {
	if os.Geteuid() != 0 {
		return Account{}, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return Account{}, fmt.Errorf("root can't run the proxies, and who else could: %w", err)
	}
	uid, uidErr := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(nobody.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		return Account{}, fmt.Errorf("user nobody has the ids %q and %q", nobody.Uid, nobody.Gid)
	}
	return Account{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// Own gives a directory and all that is in it to the account.
func (a Account) Own(dir string) error {
	if a.credential == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid))
	})
}
