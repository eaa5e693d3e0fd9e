package pgtest

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is who runs the server. PostgreSQL refuses to run as root.
type account struct {
	self     bool // the test's own account, which is not root
	uid, gid uint32
}

// unprivileged is the test's own account, or, for root, that of the distribution's PostgreSQL, else nobody.
func unprivileged() (account, error) {
	if os.Geteuid() != 0 {
		return account{self: true}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return account{}, fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
}

// own gives the files and directories to the account; what is in a directory stays as it is.
func (a account) own(paths ...string) error {
	if a.self {
		return nil
	}
	for _, path := range paths {
		if err := os.Lchown(path, int(a.uid), int(a.gid)); err != nil {
			return err
		}
	}
	return nil
}

// attributes starts a process as the account, to be ended by the signal when the thread that started it ends;
// 0 means that it isn't.
func (a account) attributes(whenParentDies syscall.Signal) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{
		Pdeathsig: whenParentDies,
		Setpgid:   true, // a Ctrl-C at the terminal is the test's to handle, in its order
	}
	if !a.self {
		attributes.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attributes
}
