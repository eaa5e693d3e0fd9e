// Package secretfile reads files that hold a secret (private keys, tokens, passwords, master keys), and refuses those that
// somebody else could read.
//
// The rule is PostgreSQL's for private keys (check_ssl_key_file_permissions in be-secure-common.c): a file of this process's
// user gives nobody else any access, and a file of root's lets its group read it and no more. The second is how packages
// and Kubernetes hand out secrets. Symbolic links are followed: what counts is the file that is read.
package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Read returns the content of a file of at most limit bytes that passes [Check] for the effective user of this process. What
// was checked is what is read: the check is made on the opened descriptor, and a path that is exchanged in between changes
// nothing. Secrets are text: a byte order mark at the beginning is left out. Errors name the path; that of a missing file satisfies errors.Is with fs.ErrNotExist.
func Read(path string, limit int) ([]byte, error) {
	// Without O_NONBLOCK the open of a named pipe would wait for a writer, before its type can be seen.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := Check(info, os.Geteuid()); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err == nil && len(text) > limit {
		err = fmt.Errorf("%s has more than %d bytes; give the file that holds the secret", path, limit)
	}
	if err != nil {
		clear(text)
		return nil, err
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// Check returns nil if nobody but the user with this uid, root, and the group that root gives can read the file. The info
// must be that of the opened file and not of its path. An error is the rest of a sentence that begins with the file, and
// says what to do.
func Check(info fs.FileInfo, uid int) error {
	mode := info.Mode()
	if !mode.IsRegular() {
		return fmt.Errorf("is not a regular file (%v)", mode.Type())
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("has an owner that is unknown on this system")
	}
	owner := int(stat.Uid)
	switch bits := mode.Perm(); {
	case owner != uid && owner != 0:
		return fmt.Errorf("must be owned by the user of this process (uid %d) or root, not by uid %d; chown it", uid, owner)
	case owner == uid && bits&0o077 != 0:
		return fmt.Errorf("has group or world access (mode %04o); chmod 0600 it, or in a Kubernetes volume set defaultMode: 0400", bits)
	case owner == 0 && bits&0o037 != 0:
		return fmt.Errorf("is owned by root, and may be readable only by its group (mode %04o); chmod 0640 it, or in a Kubernetes volume set defaultMode: 0440 and the pod's fsGroup", bits)
	}
	return nil
}
