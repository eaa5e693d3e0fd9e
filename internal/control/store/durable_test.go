package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
)

// writerVariable names the data directory that a process started by a test writes to.
const writerVariable = "PGMTLS_STORE_TEST_WRITER"

// write commits for ever, and prints the key of each commit once it is acknowledged. That is what the process is for.
func write(dir string) {
	s, err := Open(context.Background(), Options{DataDir: dir, Log: zerolog.New(os.Stderr)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("commit/%d-%d-%d", os.Getpid(), w, n)
				if _, err := s.Commit(context.Background(), new(Tx).If(key, 0).Put(key, []byte(key))); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				fmt.Println(key)
			}
		})
	}
	writers.Wait()
}

// It also shows that etcd writes nothing to standard error: neither logs, nor what its libraries say of themselves.
func TestAcknowledgedCommitsSurviveAKill(t *testing.T) {
	dir := directory(t)
	var acknowledged []string
	for _, enough := range []int{1, 100, 500} {
		acknowledged = append(acknowledged, killed(t, dir, enough)...)
	}
	s := open(t, Options{DataDir: dir, Log: quiet(t)})
	have := map[string]bool{}
	for _, text := range content(t, s, "commit/") {
		key, value, _ := strings.Cut(text, "=")
		if key != value {
			t.Errorf("%s has %q", key, value)
		}
		have[key] = true
	}
	for _, key := range acknowledged {
		if !have[key] {
			t.Errorf("%s was acknowledged, and is lost", key)
		}
	}
}

// killed runs a process that writes, kills it after some commits, and gives what it acknowledged.
func killed(t *testing.T, dir string, enough int) []string {
	t.Helper()
	process := exec.CommandContext(within(t), os.Args[0])
	process.Env = append(os.Environ(), writerVariable+"="+dir)
	var complaints strings.Builder
	process.Stderr = &complaints
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for lines := bufio.NewScanner(output); lines.Scan(); {
		keys = append(keys, lines.Text())
		if len(keys) == enough {
			process.Process.Kill()
		}
	}
	process.Wait()
	if text := withoutHaste(complaints.String()); text != "" {
		t.Errorf("standard error: %s", text)
	}
	if len(keys) < enough {
		t.Fatalf("%d commits, want %d", len(keys), enough)
	}
	return keys
}
