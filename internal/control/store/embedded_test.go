package store

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/testkit/syncbuf"
)

// listeners gives the sockets on which this process waits for others, of every protocol, as the kernel lists them.
func listeners(t *testing.T) []string {
	t.Helper()
	ours := map[string]bool{}
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(files) == 0 {
		t.Skipf("no list of open files: %v", err)
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil {
			if inode, is := strings.CutPrefix(target, "socket:["); is {
				ours[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	// By proc(5): where the inode stands, and where a listening socket has which text. Sockets of datagrams wait without
	// listening, so each of them counts.
	var found []string
	for _, table := range []struct {
		file         string
		inode, state int
		listening    string
	}{
		{"tcp", 9, 3, "0A"},
		{"tcp6", 9, 3, "0A"},
		{"udp", 9, 3, ""},
		{"udp6", 9, 3, ""},
		{"unix", 6, 3, "00010000"},
	} {
		text, err := os.ReadFile("/proc/self/net/" + table.file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > table.inode && ours[fields[table.inode]] && strings.HasPrefix(fields[table.state], table.listening) {
				found = append(found, table.file+" "+fields[table.inode])
			}
		}
	}
	return found
}

func TestEmbeddedStoreListensNowhere(t *testing.T) {
	before := listeners(t)
	s := fresh(t)
	put(t, s, "a", "1")
	if after := listeners(t); !slices.Equal(before, after) {
		t.Errorf("listening on %q, before on %q", after, before)
	}

	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		if got := listeners(t); len(got) != len(before)+1 {
			t.Errorf("a %s listener is not seen: %q", network, got)
		}
		l.Close()
	}
}

func TestDataDirectoryIsForNobodyElse(t *testing.T) {
	dir := directory(t)
	closed(t, open(t, Options{DataDir: dir}))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with %v, %v", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o750, 0o701, 0o755} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(within(t), Options{DataDir: dir})
		says(t, err, fmt.Sprintf("data directory %s: has group or world access (mode %04o); chmod 0700 it", dir, mode))
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(within(t), Options{DataDir: file})
	says(t, err, "not a directory")
}

func TestSecondDaemonInTheSameDirectoryIsToldSo(t *testing.T) {
	const want = "in use by another daemon; stop that daemon, or give this one its own directory"
	dir := directory(t)
	s := open(t, Options{DataDir: dir, Log: quiet(t)})
	_, err := Open(within(t), Options{DataDir: dir})
	says(t, err, want)
	says(t, err, dir)
	put(t, s, "a", "the first one goes on")
	closed(t, s)
	closed(t, open(t, Options{DataDir: dir}))

	// An etcd that somebody has started there by hand locks its database, and nothing else that we would see.
	database, err := os.Open(filepath.Join(dir, "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := lock(database); err != nil {
		t.Fatal(err)
	}
	_, err = Open(within(t), Options{DataDir: dir})
	says(t, err, want)
	database.Close()
	if got := content(t, open(t, Options{DataDir: dir}), ""); !slices.Equal(got, []string{"a=the first one goes on"}) {
		t.Errorf("got %q", got)
	}
}

func TestEmbeddedStoreTellsItsSize(t *testing.T) {
	s := fresh(t)
	revision := put(t, s, "a", "1")
	if err := s.Health(within(t)); err != nil {
		t.Error(err)
	}
	got, err := s.Stats(within(t))
	if err != nil || got.Revision != revision || got.Size <= 0 || got.InUse <= 0 || got.Quota != quota || got.Version == "" || got.Member != "embedded" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWarningsOfEtcdAreHandedOnWithTheirFields(t *testing.T) {
	var j syncbuf.Buffer
	log := zapLogger(zerolog.New(&j)).Named("raft").Sugar().With("member", 7)
	log.Debug("quiet")
	log.Info("quiet")
	log.Warnw("slow disk", "took", "2s")
	log.Error("broken")
	log.Warn(beside[0].message)
	log.Warnw(beside[2].message, "error", beside[2].problem)
	log.Warnw(beside[2].message, "error", "another one")
	want := `{"level":"warn","member":7,"took":"2s","message":"etcd: slow disk"}
{"level":"error","member":7,"message":"etcd: broken"}
{"level":"warn","error":"another one","member":7,"message":"etcd: ` + beside[2].message + `"}
`
	if got := j.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
