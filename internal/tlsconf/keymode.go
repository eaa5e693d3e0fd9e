package tlsconf

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// CheckKeyMode refuses a private key's file that others can read, by the rule of PostgreSQL
// (check_ssl_key_file_permissions in be-secure-common.c): owned by us, nobody else may have any access; owned by root,
// its group may read it.
//
// The info is that of the opened file, not of its path, so that what was checked is what is read. uid is the
// effective user of this process.
func CheckKeyMode(info fs.FileInfo, uid int) error {
	mode := info.Mode()
	if !mode.IsRegular() {
		return fmt.Errorf("private key file is not a regular file (%v)", mode.Type())
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of the private key file is unknown on this system")
	}
	owner := int(stat.Uid)
	switch bits := mode.Perm(); {
	case owner != uid && owner != 0:
		return fmt.Errorf("private key file must be owned by the proxy's user (uid %d) or root, not by uid %d; chown it", uid, owner)
	case owner == uid && bits&0o077 != 0:
		return fmt.Errorf("private key file has group or world access (mode %04o); chmod 0600 it", bits)
	case owner == 0 && bits&0o037 != 0:
		return fmt.Errorf("private key file, owned by root, may be read by its group and no more (mode %04o); chmod 0640 it", bits)
	}
	return nil
}
