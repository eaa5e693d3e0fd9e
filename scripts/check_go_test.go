// Package scripts tests the scripts of this directory that decide something.
package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeGo answers as go does: installed is what it is, and with GOTOOLCHAIN set to another version it fetches that, unless
// the proxy is off. One older than 1.21 knows no GOTOOLCHAIN.
const fakeGo = `#!/bin/sh
case "$2" in
GOPROXY) echo "$FAKE_PROXY" && exit 0 ;;
GOVERSION) ;;
*) echo "unexpected: $*" >&2 && exit 2 ;;
esac
case "$FAKE_INSTALLED" in go1.20*) echo "$FAKE_INSTALLED" && exit 0 ;; esac
case "$GOTOOLCHAIN" in
local | "$FAKE_INSTALLED") echo "$FAKE_INSTALLED" ;;
*)
	echo "go: downloading $GOTOOLCHAIN" >&2
	[ "$FAKE_PROXY" != off ] || { echo "go: download: module lookup disabled by GOPROXY=off" >&2 && exit 1; }
	echo "$GOTOOLCHAIN"
	;;
esac
`

func TestEveryGoBuildsWithThePinnedToolchainOrSaysWhatToDo(t *testing.T) {
	t.Parallel()
	pinned := pinnedToolchain(t)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(fakeGo), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, installed, toolchain, proxy string
		fails                             bool
		says                              []string
	}{
		{name: "the pinned one is installed", installed: pinned, toolchain: pinned, proxy: "off"},
		{name: "an older one fetches", installed: "go1.21.0", toolchain: pinned, proxy: "https://proxy.example"},
		{name: "a newer one fetches", installed: "go1.99.0", toolchain: pinned, proxy: "https://proxy.example"},
		{name: "nothing can be fetched", installed: "go1.21.0", toolchain: pinned, proxy: "off", fails: true,
			says: []string{"GOPROXY=off", "go1.21.0 is installed", "could not fetch " + pinned, "set GOPROXY", "install " + pinned}},
		{name: "too old to fetch", installed: "go1.20.14", toolchain: pinned, proxy: "https://proxy.example", fails: true,
			says: []string{"go1.20.14 is too old to fetch " + pinned, "any Go since 1.21"}},
		{name: "told not to fetch, and older", installed: "go1.26.8", toolchain: "local", proxy: "https://proxy.example", fails: true,
			says: []string{"GOTOOLCHAIN=local", "go1.26.8", "older than " + pinned, "without GOTOOLCHAIN"}},
		{name: "told not to fetch, and newer", installed: "go1.99.0", toolchain: "local", proxy: "off",
			says: []string{"GOTOOLCHAIN=local", "go1.99.0 instead of " + pinned}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			check := exec.Command("./check-go.sh")
			check.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "FAKE_INSTALLED=" + row.installed, "FAKE_PROXY=" + row.proxy,
				"GOTOOLCHAIN=" + row.toolchain}
			output, err := check.CombinedOutput()
			if (err != nil) != row.fails {
				t.Errorf("err = %v, want a failure: %v", err, row.fails)
			}
			for _, want := range row.says {
				if !strings.Contains(string(output), want) {
					t.Errorf("says %q, want %q in it", output, want)
				}
			}
		})
	}
}

func TestWithoutGoTheRemedyNamesIt(t *testing.T) {
	t.Parallel()
	check := exec.Command("./check-go.sh")
	// What the script needs, and no go.
	bin := t.TempDir()
	for _, name := range []string{"sh", "dirname", "sed", "sort", "head"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	check.Env = []string{"PATH=" + bin}
	output, err := check.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "install "+pinnedToolchain(t)) {
		t.Errorf("%v: %s", err, output)
	}
}

// The toolchain stands in go.mod. What can't read it there, as a Dockerfile's first line, says the same.
func TestTheImageIsBuiltWithThePinnedToolchain(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	want := " golang:" + strings.TrimPrefix(pinnedToolchain(t), "go") + " AS build\n"
	if strings.Count(string(text), "golang:") != 1 || !strings.Contains(string(text), want) {
		t.Errorf("the Dockerfile does not build from %q", want)
	}
}

// pinnedToolchain returns the toolchain line of go.mod.
func pinnedToolchain(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "toolchain "); ok {
			return name
		}
	}
	t.Fatal("go.mod has no toolchain line")
	return ""
}
