package pgtest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// create makes the data directory from the template, whose files have the right owner, with this server's
// settings.
func (s *Server) create(options Options) error {
	template, err := template(s.install, s.account)
	if err != nil {
		return err
	}
	if err := copyTree(template, s.DataDir); err != nil {
		return err
	}
	hba := options.HBA
	if hba == "" {
		hba = "local all,replication all trust\nhost all,replication all all trust\n"
	}
	files := map[string][]byte{
		"pg_hba.conf":          []byte(hba),
		"postgresql.auto.conf": settingsFile(options),
	}
	if len(options.Cert) != 0 {
		files["server.crt"], files["server.key"] = options.Cert, options.Key
	}
	if len(options.CA) != 0 {
		files["root.crt"] = options.CA
	}
	for name, content := range files {
		path := filepath.Join(s.DataDir, name)
		if err := errors.Join(os.WriteFile(path, content, 0o600), s.account.own(path)); err != nil {
			return err
		}
	}
	// The server makes its socket here.
	return s.account.own(s.SocketDir)
}

// settingsFile is postgresql.auto.conf, which wins over the postgresql.conf that initdb made.
func settingsFile(options Options) []byte {
	settings := map[string]string{
		"fsync":              "off", // nothing here outlives the test
		"full_page_writes":   "off",
		"synchronous_commit": "off",
		"max_connections":    "200",
		"max_wal_size":       "1GB",
		"log_line_prefix":    "%m [%p] ",
		"lc_messages":        "C",
	}
	if len(options.Cert) != 0 {
		settings["ssl"] = "on"
		settings["ssl_cert_file"] = "server.crt"
		settings["ssl_key_file"] = "server.key"
		if len(options.CA) != 0 {
			settings["ssl_ca_file"] = "root.crt"
		}
	}
	maps.Copy(settings, options.Settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return []byte(text.String())
}

// initdbArgs make a small cluster whose behaviour does not depend on the machine's locale.
var initdbArgs = []string{"-U", Superuser, "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "--wal-segsize=1"}

var templateMutex sync.Mutex

// template returns a directory made by initdb, to be copied. It is kept in .cache for all test programs and
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
	defer func() { _ = os.RemoveAll(pending) }() // what stays is in the way of nothing
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
