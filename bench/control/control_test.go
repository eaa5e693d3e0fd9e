package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAQuickRunIsShorterUnlessTold(t *testing.T) {
	long, err := optionsFrom(nil)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := optionsFrom([]string{"-quick", "-window", "7s"})
	if err != nil {
		t.Fatal(err)
	}
	if quick.databases >= long.databases || quick.changes >= long.changes || quick.rest >= long.rest || quick.window != 7*time.Second {
		t.Errorf("quick is %+v, long is %+v", quick, long)
	}
	for _, args := range [][]string{{"something"}, {"-rate", "0"}, {"-databases", "3", "-proxies", "3"}, {"-window", "x"}} {
		if _, err := optionsFrom(args); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

func TestUntilGivesTheFirstError(t *testing.T) {
	wrong := errors.New("wrong")
	asked := 0
	err := until(t.Context(), time.Nanosecond, "it", func(context.Context) (bool, error) {
		if asked++; asked == 3 {
			return false, wrong
		}
		return false, nil
	})
	if err != wrong || asked != 3 {
		t.Errorf("got %v after %d questions", err, asked)
	}
}

func TestSizeOfTheStoreTellsItsDatabaseApart(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	for name, size := range map[string]int{"member/snap/db": 1000, "member/wal/0.wal": 500} {
		path := filepath.Join(b.dataDir(), "etcd", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, database, err := b.storeSize()
	if all != 1500 || database != 1000 || err != nil {
		t.Errorf("got %d and %d bytes, %v", all, database, err)
	}
}

func TestMachineIsBusyWhileATestRuns(t *testing.T) {
	before, err := busy()
	if err != nil || before <= 0 {
		t.Fatalf("got %s, %v", before, err)
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
	}
	if after, err := busy(); err != nil || after <= before {
		t.Errorf("after 50 ms of work it is %s, and was %s, %v", after, before, err)
	}
}
