package control

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// bouncerRecipe starts PgBouncer with the recipe, on a socket in its directory. PgBouncer refuses to run as root.
func bouncerRecipe(t *testing.T, k *kitchen) {
	own := filepath.Join(k.dir, "files")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root.crt", "postgresql.crt", "postgresql.key"} {
		writeFile(t, filepath.Join(own, name), readFile(t, filepath.Join(k.app, name)))
	}
	config := filepath.Join(k.dir, "pgbouncer.ini")
	text := strings.NewReplacer("listen_addr = 127.0.0.1", "listen_addr =", k.app, own).Replace(readFile(t, config))
	writeFile(t, config, text+"unix_socket_dir = "+k.dir+"\nauth_file = "+config+"\n")

	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer"
	}
	command := exec.Command(path, config)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		command.SysProcAttr.Credential = give(t, k.dir)
	}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended by itself, which Wait tells
		_ = command.Wait()
		if t.Failed() {
			t.Logf("PgBouncer says:\n%s", &output)
		}
	})
	eventually.OK(t, patience, func() error {
		_, err := os.Stat(filepath.Join(k.dir, ".s.PGSQL.6432"))
		if errors.Is(err, os.ErrNotExist) {
			return eventually.ErrNotYet
		}
		return err
	})
}

// give makes a directory with all that is in it somebody else's, who is not root.
func give(t *testing.T, dir string) *syscall.Credential {
	t.Helper()
	other, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody: ", err)
	}
	uid, uidErr := strconv.ParseUint(other.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(other.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(uid), int(gid)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
