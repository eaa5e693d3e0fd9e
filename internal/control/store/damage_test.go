package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/testkit/must"
)

// openerVariable names the data directory that a process started by a test opens, and says how that went.
const openerVariable = "PGMTLS_STORE_TEST_OPENER"

// tryToOpen is what the process is for: everything that it writes is what an operator would read.
func tryToOpen(dir string) {
	s, err := Open(context.Background(), Options{DataDir: dir, Log: zerolog.New(os.Stderr)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	items, _, err := s.List(context.Background(), "")
	fmt.Println(len(items), err)
}

// sayWithin is how soon a daemon has to say that its store is damaged.
const sayWithin = 15 * time.Second

func TestDamageIsSaidInOneLineWithoutAPanicOrAHang(t *testing.T) {
	whole := directory(t)
	s := open(t, Options{DataDir: whole, Log: quiet(t)})
	for n := range 1200 { // more than one snapshot of the log
		put(t, s, fmt.Sprintf("key/%04d", n), strings.Repeat("value", 200))
	}
	closed(t, s)
	wal := only(t, filepath.Join(whole, "member", "wal", "*.wal"))
	snapshots, err := filepath.Glob(filepath.Join(whole, "member", "snap", "*.snap"))
	if err != nil || len(snapshots) == 0 {
		t.Fatalf("no snapshot of the log: %v", err)
	}

	harms := map[string]func(t *testing.T, path string){
		"missing":       func(t *testing.T, path string) { must.OK(t, os.Remove(path)) },
		"empty":         func(t *testing.T, path string) { must.OK(t, os.Truncate(path, 0)) },
		"half":          func(t *testing.T, path string) { must.OK(t, os.Truncate(path, used(t, path)/2)) },
		"a few bytes":   func(t *testing.T, path string) { must.OK(t, os.Truncate(path, 100)) },
		"zeroed":        func(t *testing.T, path string) { overwrite(t, path, 0, int(size(t, path)), 0) },
		"zeroed head":   func(t *testing.T, path string) { overwrite(t, path, 0, 16<<10, 0) },
		"zeroed middle": func(t *testing.T, path string) { overwrite(t, path, used(t, path)/2, int(used(t, path)/4), 0) },
		"other bytes":   func(t *testing.T, path string) { overwrite(t, path, 0, int(used(t, path)), 0xa5) },
	}
	for file, name := range map[string]string{"db": filepath.Join("member", "snap", "db"), "wal": strings.TrimPrefix(wal, whole)} {
		for how, harm := range harms {
			t.Run(file+" "+how, func(t *testing.T) {
				t.Parallel()
				dir := dataCopy(t, whole)
				harm(t, filepath.Join(dir, name))
				wantOneLine(t, dir)
			})
		}
	}
	for what, harm := range map[string]func(t *testing.T, dir string){
		"no log directory":      func(t *testing.T, dir string) { must.OK(t, os.RemoveAll(filepath.Join(dir, "member", "wal"))) },
		"no database directory": func(t *testing.T, dir string) { must.OK(t, os.RemoveAll(filepath.Join(dir, "member", "snap"))) },
		"older database": func(t *testing.T, dir string) {
			must.OK(t, os.WriteFile(filepath.Join(dir, "member", "snap", "db"), databaseOfAnEmptyStore(t), 0o600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := dataCopy(t, whole)
			harm(t, dir)
			wantOneLine(t, dir)
		})
	}
}

// wantOneLine starts a process on a damaged store.
func wantOneLine(t *testing.T, dir string) {
	t.Helper()
	began := time.Now()
	output, code := opened(t, dir)
	if took := time.Since(began); took > sayWithin {
		t.Errorf("it took %v", took)
	}
	if code != 1 || strings.Count(output, "\n") != 1 || !strings.Contains(output, "is damaged") || !strings.Contains(output, "pgmtls snapshot restore") {
		t.Errorf("exit code %d, want 1 and one line that says it:\n%s", code, output)
	}
}

func opened(t *testing.T, dir string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	process := exec.CommandContext(ctx, os.Args[0])
	process.Env = append(os.Environ(), openerVariable+"="+dir)
	text, err := process.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(text), exit.ExitCode()
	}
	must.OK(t, err)
	return string(text), 0
}

// A start that was killed before anything was written has made directories, and nothing is lost with them.
func TestDirectoriesOfAKilledFirstStartAreNoDamage(t *testing.T) {
	dir := directory(t)
	must.OK(t, os.MkdirAll(filepath.Join(dir, "member", "snap"), 0o700))
	open(t, Options{DataDir: dir, Log: quiet(t)})
}

// A log that ends in the middle of a record is what a kill in the act of writing leaves.
func TestTornLastRecordOfTheLogIsNoDamage(t *testing.T) {
	dir := directory(t)
	s := open(t, Options{DataDir: dir, Log: quiet(t)})
	put(t, s, "a", "b")
	closed(t, s)
	wal := only(t, filepath.Join(dir, "member", "wal", "*.wal"))
	end := endOfLog(t, wal)
	overwrite(t, wal, end, 1, 0x40) // the length of a record of 64 bytes
	must.OK(t, os.Truncate(wal, end+8+20))
	again := open(t, Options{DataDir: dir, Log: zerolog.Nop()})
	if got := content(t, again, ""); len(got) != 1 || got[0] != "a=b" {
		t.Errorf("got %q", got)
	}
}

func TestExistsTellsAStoreFromAnEmptyDirectory(t *testing.T) {
	dir := t.TempDir()
	if exists, err := Exists(dir); exists || err != nil {
		t.Errorf("of an empty directory: %v, %v", exists, err)
	}
	if exists, err := Exists(filepath.Join(dir, "none")); exists || err != nil {
		t.Errorf("of none: %v, %v", exists, err)
	}
	must.OK(t, os.Mkdir(filepath.Join(dir, "member"), 0o700))
	if exists, err := Exists(dir); !exists || err != nil {
		t.Errorf("of a store: %v, %v", exists, err)
	}
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must.OK(t, err)
	return info.Size()
}

// used is the size without the zeros that a log has at its end.
func used(t *testing.T, path string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	must.OK(t, err)
	return int64(len(strings.TrimRight(string(text), "\x00")))
}

// endOfLog walks the frames of a write-ahead log: eight bytes with the length and how much is padded, and the record.
func endOfLog(t *testing.T, path string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	must.OK(t, err)
	for at := int64(0); ; {
		frame := binary.LittleEndian.Uint64(text[at:])
		if frame == 0 {
			return at
		}
		length := int64(frame &^ (0xff << 56))
		if frame>>63 == 1 {
			length += int64(frame >> 56 & 7)
		}
		at += 8 + length
	}
}

// dataCopy copies a data directory with modes as the daemon makes them.
func dataCopy(t *testing.T, from string) string {
	t.Helper()
	dir := directory(t)
	must.OK(t, os.CopyFS(dir, os.DirFS(from)))
	must.OK(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	}))
	return dir
}

func overwrite(t *testing.T, path string, at int64, n int, with byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must.OK(t, err)
	_, err = f.WriteAt([]byte(strings.Repeat(string([]byte{with}), n)), at)
	must.OK(t, errors.Join(err, f.Close()))
}

func databaseOfAnEmptyStore(t *testing.T) []byte {
	t.Helper()
	dir := directory(t)
	closed(t, open(t, Options{DataDir: dir, Log: zerolog.Nop()}))
	text, err := fs.ReadFile(os.DirFS(dir), "member/snap/db")
	must.OK(t, err)
	return text
}
