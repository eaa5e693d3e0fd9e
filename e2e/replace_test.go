package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// replacement is a way in which somebody may replace the policy.
type replacement struct {
	name string
	// begin writes the first policy below base. It gives policy_dir, and what replaces the policy there.
	begin func(t *testing.T, base string, first policy) (dir string, replace func(policy))
}

// replacements are the ways that docs/operations.md calls safe, and those of editors.
func replacements() []replacement {
	return []replacement{
		{"rename", inDirectory(func(t *testing.T, path string, text []byte) { writeFile(t, path, text) })},
		{"in place", inDirectory(overwrite)},
		{"backup, then a new file", inDirectory(func(t *testing.T, path string, text []byte) {
			must.OK(t, os.Rename(path, path+"~"))
			overwrite(t, path, text)
		})},
		{"link to a file", func(t *testing.T, base string, first policy) (string, func(policy)) {
			dir := filepath.Join(base, "policy")
			writePolicyDir(t, dir, first)
			link := filepath.Join(dir, "policy.yaml")
			must.OK(t, os.Remove(link))
			replace := func(next policy) {
				file := "policy-" + next.Generation + ".json"
				overwrite(t, filepath.Join(dir, file), next.text(t))
				swapLink(t, link, file)
			}
			replace(first)
			return dir, replace
		}},
		{"link to a directory", func(t *testing.T, base string, first policy) (string, func(policy)) {
			link := filepath.Join(base, "current")
			replace := func(next policy) {
				writePolicyDir(t, filepath.Join(base, next.Generation), next)
				swapLink(t, link, next.Generation)
			}
			replace(first)
			return link, replace
		}},
		{"Kubernetes volume", func(t *testing.T, base string, first policy) (string, func(policy)) {
			v := newVolume(t, base, first, pki.private)
			return v.dir, func(next policy) { v.swap(t, next, pki.private) }
		}},
	}
}

func inDirectory(write func(t *testing.T, path string, text []byte)) func(*testing.T, string, policy) (string, func(policy)) {
	return func(t *testing.T, base string, first policy) (string, func(policy)) {
		dir := filepath.Join(base, "policy")
		writePolicyDir(t, dir, first)
		return dir, func(next policy) { write(t, filepath.Join(dir, "policy.yaml"), next.text(t)) }
	}
}

// overwrite empties the file and writes it anew, or makes it.
func overwrite(t *testing.T, path string, text []byte) { must.OK(t, os.WriteFile(path, text, 0o644)) }

// swapLink makes a symbolic link, or replaces it at once.
func swapLink(t *testing.T, link, target string) {
	t.Helper()
	must.OK(t, os.Symlink(target, link+".new"))
	must.OK(t, os.Rename(link+".new", link))
}

// volume is a directory as Kubernetes mounts a ConfigMap or a Secret: what one sees there are links through the link
// ..data, which alone is replaced.
type volume struct {
	dir     string
	version string // the directory that ..data names
	n       int
}

func newVolume(t *testing.T, base string, first policy, served *testpki.Pair) *volume {
	t.Helper()
	v := &volume{dir: filepath.Join(base, "volume")}
	must.OK(t, os.Mkdir(v.dir, 0o755))
	v.swap(t, first, served)
	entries, err := os.ReadDir(filepath.Join(v.dir, v.version))
	must.OK(t, err)
	for _, entry := range entries {
		must.OK(t, os.Symlink(filepath.Join("..data", entry.Name()), filepath.Join(v.dir, entry.Name())))
	}
	return v
}

// swap is what the kubelet does: a new directory with everything in it, the link to it, and the old one is removed.
func (v *volume) swap(t *testing.T, next policy, served *testpki.Pair) {
	t.Helper()
	v.n++
	old := v.version
	v.version = fmt.Sprintf("..2026_01_01_00_00_00.%d", v.n)
	dir := filepath.Join(v.dir, v.version)
	writePolicyDir(t, dir, next)
	must.OK(t, served.Write(filepath.Join(dir, "private")))
	swapLink(t, filepath.Join(v.dir, "..data"), v.version)
	if old != "" {
		must.OK(t, os.RemoveAll(filepath.Join(v.dir, old)))
	}
}
