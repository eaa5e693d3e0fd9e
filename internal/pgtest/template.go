package pgtest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// initdbArgs make a small cluster whose behaviour does not depend on the machine's locale.
var initdbArgs = []string{"-U", Superuser, "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "--wal-segsize=1"}

var templateMutex sync.Mutex

// template gives a directory made by initdb, to be copied. It is kept in .cache for all test programs and
// runs, since initdb takes longer than most tests, under a name made of all that it depends on.
func template(install Install, runAs account) (string, error) {
	templateMutex.Lock()
	defer templateMutex.Unlock()

	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	version, err := exec.Command(filepath.Join(install.BinDir, "initdb"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s/initdb --version: %w", install.BinDir, err)
	}
	key := sha256.Sum256([]byte(string(version) + strings.Join(initdbArgs, " ") + Password + strconv.Itoa(int(runAs.uid)) + strconv.Itoa(os.Getuid())))
	parent := filepath.Join(root, ".cache", "pgtest")
	kept := filepath.Join(parent, hex.EncodeToString(key[:8]))
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}

	fresh, release, err := newDirectory()
	if err != nil {
		return "", err
	}
	defer release()
	data := filepath.Join(fresh, "data")
	if err := initdb(install, runAs, data); err != nil {
		return "", err
	}
	// Another test program may do the same at the same time: the copy appears complete or not at all, and
	// whichever comes first stays.
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	pending, err := os.MkdirTemp(parent, "new.")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(pending)
	if err := copyTree(data, filepath.Join(pending, "data")); err != nil {
		return "", err
	}
	err = os.Rename(filepath.Join(pending, "data"), kept)
	if err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return "", err
	}
	return kept, nil
}

// initdb makes a cluster in a new directory, whose parent is given to the account.
func initdb(install Install, runAs account, data string) error {
	passwordFile := filepath.Join(filepath.Dir(data), "password")
	if err := os.WriteFile(passwordFile, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	if err := runAs.own(filepath.Dir(data), passwordFile); err != nil {
		return err
	}
	args := append([]string{"-D", data, "--pwfile=" + passwordFile}, initdbArgs...)
	command := exec.Command(filepath.Join(install.BinDir, "initdb"), args...)
	command.Dir = "/"
	command.Env = serverEnvironment
	command.SysProcAttr = runAs.attributes(0) // it ends by itself, and this thread may end before it
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, output)
	}
	return nil
}
