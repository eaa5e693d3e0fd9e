package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/testkit/must"
)

// smallDisk mounts a file system of some MiB until the end of the test.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("no small disk without root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The etcd of others ends the process then, and its callers read an EOF.
func TestFullDiskEndsTheStoreWithAnErrorAndLosesNothing(t *testing.T) {
	disk := smallDisk(t, 160)
	dir := filepath.Join(disk, "data")
	s := open(t, Options{DataDir: dir, Log: zerolog.Nop()})
	value := []byte(strings.Repeat("v", 900<<10))
	var acknowledged []string
	var err error
	for n := range 400 {
		key := fmt.Sprintf("key/%03d", n)
		if _, err = s.Commit(within(t), new(Tx).Put(key, value)); err != nil {
			break
		}
		acknowledged = append(acknowledged, key)
	}
	wants(t, err, ErrFailed)
	select {
	case <-s.Failed():
		says(t, s.Err(), "no space left on device")
	case <-within(t).Done():
		t.Fatal("nobody is told that the store has failed")
	}
	_, err = s.Get(within(t), "key/000")
	wants(t, err, ErrFailed)
	wants(t, s.Health(within(t)), ErrFailed)
	closed(t, s)

	// What was acknowledged is there, once there is space.
	if err := unix.Mount("none", disk, "", unix.MS_REMOUNT, "size=600m"); err != nil {
		t.Fatal(err)
	}
	again := dataCopy(t, dir) // the failed etcd still has the files; a daemon has ended by now
	have := map[string]bool{}
	items, _, err := open(t, Options{DataDir: again, Log: zerolog.Nop()}).List(within(t), "key/")
	must.OK(t, err)
	for _, item := range items {
		have[item.Key] = true
	}
	for _, key := range acknowledged {
		if !have[key] {
			t.Errorf("%s was acknowledged, and is lost", key)
		}
	}
}

func TestStartOnAFullDiskSaysThatItIsFull(t *testing.T) {
	disk := smallDisk(t, 8)
	must.OK(t, os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 6<<20), 0o600))
	_, err := Open(within(t), Options{DataDir: filepath.Join(disk, "data"), Log: zerolog.Nop()})
	says(t, err, "free some space")
	if errors.Is(err, ErrDamaged) {
		t.Errorf("%v: a full disk is no damage", err)
	}
}
