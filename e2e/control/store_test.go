package control

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/testkit/eventually"
)

// The disk with the store was lost, or the volume was not mounted: an empty store must not be served in its place.
func TestKeyWithoutItsStoreIsRefusedAndNothingIsMade(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.do(t, "databases", "create", "shop", "--host", "localhost")
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	p.do(t, "snapshot", "save", snapshot)
	p.stop(t)
	etcd := filepath.Join(p.Dir, "etcd")
	for what, lose := range map[string]func() error{
		"removed": func() error { return os.RemoveAll(etcd) },
		"emptied": func() error { return os.Mkdir(etcd, 0o700) }, // over the one that was removed, or made by a mount
	} {
		if err := os.RemoveAll(etcd); err != nil {
			t.Fatal(err)
		}
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := program(t, pgmtlsPath, append([]string{"serve"}, p.args...)...)
		if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "snapshot restore") || !strings.Contains(stderr, "--new-store") {
			t.Errorf("%s: the daemon ends with %d, want 1 and one line with both ways on:\n%s", what, code, stderr)
		}
		if entries, err := os.ReadDir(etcd); err == nil && len(entries) > 0 {
			t.Errorf("%s: a store was begun: %v", what, entries)
		}
	}
	// Both ways on are open.
	p.args = append(p.args, "--new-store")
	p.start(t)
	p.stop(t)
	p.args[len(p.args)-1] = "--new-admin-token" // that of the snapshot is not at hand
	if err := os.RemoveAll(etcd); err != nil {
		t.Fatal(err)
	}
	p.do(t, "snapshot", "restore", snapshot, "--data-dir", p.Dir)
	p.start(t)
	says(t, p.do(t, "databases"), "shop")
}

// Without the store the other traces of an earlier control plane count too: its key may be kept elsewhere.
func TestStoreLostBesideAKeyKeptElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := configured(t, map[string]any{"master_key_file": filepath.Join(dir, "master.key")})
	p.stop(t)
	if err := os.RemoveAll(filepath.Join(p.Dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := program(t, pgmtlsPath, append([]string{"serve"}, p.args...)...); code != 1 || !strings.Contains(stderr, "control-ca.pem") {
		t.Errorf("the daemon ends with %d: %s", code, stderr)
	}
	// A key that was made beforehand for the first start is none of an earlier store.
	if err := os.RemoveAll(p.Dir); err != nil {
		t.Fatal(err)
	}
	p.start(t)
}

func TestDamagedStoreIsOneLineAndExitCodeOne(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.stop(t)
	if err := os.Truncate(filepath.Join(p.Dir, "etcd", "member", "snap", "db"), 5000); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := program(t, pgmtlsPath, append([]string{"serve"}, p.args...)...)
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "is damaged") || !strings.Contains(stderr, "restore the last snapshot") {
		t.Errorf("the daemon ends with %d, want 1 and one line:\n%s", code, stderr)
	}
}

// While space gets short, nothing new is taken in, and what takes something away still is.
func TestShortDiskRefusesWhatAddsAndTakesWhatTakesAway(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=768m"); err != nil {
		t.Skipf("no small disk without root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	p := configured(t, map[string]any{"data_dir": filepath.Join(disk, "data"), "policy_roots": []string{t.TempDir()}})
	p.Dir, p.client = filepath.Join(disk, "data"), filepath.Join(disk, "data", "client.yaml")
	p.do(t, "databases", "create", "shop", "--host", "localhost")
	w := p.web(t, p.admin(t))
	w.gets(t, http.StatusCreated, "POST "+endpointPath, "", nil)
	rule := w.rule(t, "198.51.100.1/32", "")

	var stat unix.Statfs_t
	if err := unix.Statfs(disk, &stat); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, int64(stat.Bavail)*int64(stat.Bsize)-(64<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually.OK(t, patience, func() error { // a look at the disk counts for a second
		result := p.run(t, "ip-rules", "create", "shop", "--cidr", "198.51.100.2/32")
		if result.code != 1 || !strings.Contains(result.stderr, "store is full") || !strings.Contains(result.stderr, "free some space") {
			return fmt.Errorf("a rule is created with %d: %s", result.code, result.stderr)
		}
		return nil
	})
	w.gets(t, http.StatusAccepted, "DELETE "+rule, "", nil)
	metrics, err := w.send(http.MethodGet, "/metrics", "")
	if err != nil {
		t.Fatal(err)
	}
	says(t, string(metrics.body), "pgmtls_control_store_free_bytes ", "pgmtls_control_up 1")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually.OK(t, patience, func() error {
		if result := p.run(t, "ip-rules", "create", "shop", "--cidr", "198.51.100.2/32"); result.code != 0 {
			return fmt.Errorf("with space again: %s", result.stderr)
		}
		return nil
	})
	p.do(t, "store", "compact")
	p.do(t, "store", "disarm")
}
