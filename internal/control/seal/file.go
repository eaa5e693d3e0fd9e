package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// LoadRing reads a key file that nobody else can read, by the rule of PostgreSQL for private keys
// (check_ssl_key_file_permissions in be-secure-common.c): owned by us, nobody else may have any access; owned by root,
// its group may read it. It follows symbolic links, which is how Kubernetes hands out secrets.
func LoadRing(path string) (*Ring, error) {
	text, err := ReadSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	defer clear(text)
	ring, err := ParseRing(text)
	if err != nil {
		return nil, fmt.Errorf("master key %s: %w", path, err)
	}
	return ring, nil
}

// ReadSecret reads a file with a secret, of at most 64 KiB, that nobody else can read: see [LoadRing] for the rule.
func ReadSecret(path string) ([]byte, error) {
	// A named pipe without a writer would hold up who opens it, before its type can be seen.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkMode(info, os.Geteuid()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxText+1))
	if len(text) > maxText {
		clear(text)
		return nil, fmt.Errorf("%s has more than %d bytes; this is another file", path, maxText)
	}
	return text, err
}

// checkMode looks at the opened file, not at its path, so that what was checked is what is read. The proxy has the same
// rule for its keys (tlsconf), and no code is shared with it.
func checkMode(info fs.FileInfo, uid int) error {
	mode := info.Mode()
	if !mode.IsRegular() {
		return fmt.Errorf("not a regular file (%v)", mode.Type())
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of the file is unknown on this system")
	}
	owner := int(stat.Uid)
	switch bits := mode.Perm(); {
	case owner != uid && owner != 0:
		return fmt.Errorf("must be owned by the daemon's user (uid %d) or root, not by uid %d; chown it", uid, owner)
	case owner == uid && bits&0o077 != 0:
		return fmt.Errorf("has group or world access (mode %04o); chmod 0600 it", bits)
	case owner == 0 && bits&0o037 != 0:
		return fmt.Errorf("owned by root, may be read by its group and no more (mode %04o); chmod 0640 it", bits)
	}
	return nil
}
