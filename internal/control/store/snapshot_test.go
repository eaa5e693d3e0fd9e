package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// saved makes a store with something in it, and gives its content and a snapshot of it.
func saved(t *testing.T) (items []Item, revision int64, snapshot []byte) {
	t.Helper()
	s := fresh(t)
	for i := range 300 {
		put(t, s, fmt.Sprintf("item/%03d", i), fmt.Sprint("first ", i))
	}
	commit(t, s, new(Tx).Put("item/000", []byte("second")).Delete("item/001"))
	var file bytes.Buffer
	if err := s.SaveSnapshot(within(t), &file); err != nil {
		t.Fatal(err)
	}
	put(t, s, "item/000", "after the snapshot")
	items, revision, err := s.List(within(t), "item/")
	if err != nil {
		t.Fatal(err)
	}
	items[0].Value, items[0].Revision = []byte("second"), revision-1
	return items, revision, file.Bytes()
}

func TestRestoredStoreHasTheSameContent(t *testing.T) {
	want, revision, snapshot := saved(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := directory(t)
	if err := RestoreSnapshot(within(t), file, dir); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{DataDir: dir, Log: quiet(t)})
	got, now, err := s.List(within(t), "item/")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d items, want %d, %v", len(got), len(want), err)
	}
	if now <= revision {
		t.Errorf("revision %d, and there was %d before", now, revision)
	}
	for _, err := range s.Watch(within(t), "", revision) {
		wants(t, err, ErrCompacted)
	}

	next := commit(t, s, new(Tx).If("item/000", got[0].Revision).Put("item/000", []byte("third")))
	for events, err := range s.Watch(within(t), "", now) {
		if err != nil || len(events) != 1 || events[0].Revision != next {
			t.Errorf("%v, %v", events, err)
		}
		break
	}
	closed(t, s)
	s = open(t, Options{DataDir: dir, Log: quiet(t)})
	if item, err := s.Get(within(t), "item/000"); err != nil || string(item.Value) != "third" {
		t.Errorf("after another start: %+v, %v", item, err)
	}
}

// Both times the store goes on from the same revision.
func TestRevisionsOfTwoRestoresOfTheSameSnapshotDiffer(t *testing.T) {
	_, _, snapshot := saved(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	var last int64
	for range 2 {
		dir := directory(t)
		if err := RestoreSnapshot(within(t), file, dir); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{DataDir: dir, Log: quiet(t)})
		for range 5 {
			revision := put(t, s, "a", "x")
			if revision <= last {
				t.Fatalf("revision %d after %d", revision, last)
			}
			last = revision
		}
	}
}

func TestDamagedSnapshotIsRefusedAndLeavesNothing(t *testing.T) {
	_, _, snapshot := saved(t)
	changed := bytes.Clone(snapshot)
	changed[len(changed)/2] ^= 1
	noise := bytes.Repeat([]byte{7}, 8192)
	sum := sha256.Sum256(noise)
	for name, row := range map[string]struct {
		content []byte
		want    string
	}{
		"a bit":                       {changed, "damaged snapshot"},
		"its end":                     {snapshot[:len(snapshot)-1], "incomplete snapshot"},
		"the checksum does not match": {snapshot[:len(snapshot)-sha256.Size], "incomplete snapshot"},
		"a sector":                    {append(bytes.Clone(snapshot[:sector]), snapshot[2*sector:]...), "damaged snapshot"},
		"all of it":                   {nil, "incomplete snapshot: 0 bytes"},
		"another format":              {append(noise, sum[:]...), "not a snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "snapshot")
			if err := os.WriteFile(file, row.content, 0o600); err != nil {
				t.Fatal(err)
			}
			dir := directory(t)
			err := RestoreSnapshot(within(t), file, dir)
			says(t, err, row.want)
			says(t, err, file)
			if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
	err := RestoreSnapshot(within(t), filepath.Join(t.TempDir(), "none"), directory(t))
	wants(t, err, fs.ErrNotExist)
}

func TestRestoreOverwritesNothing(t *testing.T) {
	want, _, snapshot := saved(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // empty
	if err := RestoreSnapshot(within(t), file, dir+"/"); err != nil {
		t.Fatal(err)
	}
	says(t, RestoreSnapshot(within(t), file, dir), "directory is not empty")
	if got := content(t, open(t, Options{DataDir: dir}), "item/"); len(got) != len(want) {
		t.Errorf("%d items, want %d", len(got), len(want))
	}
}

var errFull = errors.New("disk is full")

// full is a writer that takes some bytes, and no more.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestSnapshotThatCanNotBeWrittenIsAnError(t *testing.T) {
	s := open(t, Options{DataDir: directory(t)})
	room := full(sector)
	wants(t, s.SaveSnapshot(within(t), &room), errFull)
	put(t, s, "a", "the store goes on")
}
