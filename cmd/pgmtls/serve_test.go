package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/syncbuf"
)

// command runs pgmtls in this process, and gives its exit code and what it printed.
func command(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, problems bytes.Buffer
	code = run(ctx, environment{args: args, getenv: func(name string) string { return env[name] }, stdin: strings.NewReader(""), stdout: &out, stderr: &problems})
	return code, out.String(), problems.String()
}

// daemonAt is a running daemon.
type daemonAt struct {
	t    *testing.T
	dir  string
	log  *syncbuf.Buffer
	stop func() (code int)
}

// start serves in a data directory until the test ends, or stop is called.
func start(t *testing.T, dir string, env map[string]string, flags ...string) *daemonAt {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	d := &daemonAt{t: t, dir: dir, log: &syncbuf.Buffer{}}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, environment{args: append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}, flags...),
			getenv: func(name string) string { return env[name] }, stdin: strings.NewReader(""), stdout: d.log, stderr: d.log})
	}()
	d.stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() { d.stop() })
	eventually.OK(t, time.Minute, func() error {
		select {
		case c := <-code:
			code <- c
			t.Fatalf("the daemon ended with %d:\n%s", c, d.log)
		default:
		}
		if !strings.Contains(d.log.String(), `"serving"`) {
			return fmt.Errorf("the daemon does not serve:\n%s", d.log)
		}
		return nil
	})
	return d
}

// ask runs a command against the daemon, and wants it to succeed.
func (d *daemonAt) ask(args ...string) string {
	d.t.Helper()
	code, stdout, stderr := command(d.t, map[string]string{"PGMTLS_CONFIG": filepath.Join(d.dir, clientFile)}, args...)
	if code != 0 {
		d.t.Fatalf("pgmtls %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

func TestFirstStartNeedsADirectoryAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := start(t, dir, nil)
	for name, mode := range map[string]os.FileMode{"master.key": 0o600, adminTokenFile: 0o600, controlCAFile: 0o644, clientFile: 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", name, info.Mode(), err, mode)
		}
	}
	d.ask("databases", "create", "orders", "--host", "db.example.com")
	if code := d.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, d.log)
	}
	token, err := os.ReadFile(filepath.Join(dir, adminTokenFile))
	if err != nil || strings.Contains(d.log.String(), strings.TrimSpace(string(token))) {
		t.Errorf("%v, or the token is in the log", err)
	}
	// The second start finds what the first one made.
	again := start(t, dir, nil)
	if got := again.ask("databases"); !strings.Contains(got, "orders") {
		t.Errorf("the database is gone:\n%s", got)
	}
}

func TestMasterKeyIsMadeOnlyForAnEmptyStore(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, nil).stop()
	key := filepath.Join(dir, "master.key")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := command(t, nil, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(stderr, "is missing, and the store has secrets") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("another master key was made")
	}
	start(t, dir, map[string]string{masterKeyVariable: string(text)}).stop() // from the environment

	if err := os.WriteFile(key, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(key, 0o644); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	code, _, stderr = command(t, nil, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(stderr, "master.key") || strings.Contains(stderr, strings.TrimSpace(string(text))) {
		t.Errorf("exit code %d for a key that others can read: %s", code, stderr)
	}
	code, _, stderr = command(t, map[string]string{masterKeyVariable: "secret-that-is-no-key"}, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(stderr, masterKeyVariable) || strings.Contains(stderr, "secret-that-is-no-key") {
		t.Errorf("exit code %d for what is no key: %s", code, stderr)
	}
}

func TestSecondDaemonInADirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, nil)
	code, _, stderr := command(t, nil, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(stderr, dir) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestSnapshotIsRestoredWithItsMasterKeyAndNotWithout(t *testing.T) {
	dir := t.TempDir()
	d := start(t, dir, nil)
	d.ask("databases", "create", "orders", "--host", "db.example.com")
	d.ask("mtls", "create", "orders")
	file := filepath.Join(t.TempDir(), "snapshot")
	d.ask("snapshot", "save", file)
	d.stop()

	restored := filepath.Join(t.TempDir(), "state")
	code, stdout, stderr := command(t, nil, "snapshot", "restore", file, "--data-dir", restored)
	if code != exitOK || !strings.Contains(stdout, "master.key") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, _, stderr = command(t, nil, "serve", "--data-dir", restored, "--listen", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(stderr, "restore it from your backup") {
		t.Errorf("exit code %d without the master key: %s", code, stderr)
	}
	key, err := os.ReadFile(filepath.Join(dir, "master.key"))
	if err == nil {
		err = writeOnce(filepath.Join(restored, "master.key"), key)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := start(t, restored, nil, "--new-admin-token").ask("certificates", "orders"); !strings.Contains(got, "orders-") {
		t.Errorf("the certificate is gone:\n%s", got)
	}
	if code, _, stderr = command(t, nil, "snapshot", "restore", file, "--data-dir", restored); code != exitFailure || stderr == "" {
		t.Errorf("a store was overwritten: exit code %d, %s", code, stderr)
	}
}

func TestUsageErrorsSayWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"serve"}, "data-dir"},
		{[]string{"serve", "--data-dir", ""}, "--data-dir is empty"},
		{[]string{"serve", "--config", ""}, "--config or"},
		{[]string{"serve", "--config", "/does/not/exist.yaml"}, "/does/not/exist.yaml"},
		{[]string{"serve", "--data-dir", "x", "--listen", "nowhere"}, "listen"},
		{[]string{"agent", "--database", "orders"}, "control"},
		{[]string{"agent", "--database", "orders", "--control", "https://localhost", "--policy-dir", "x", "--admin", "192.0.2.1:9815"}, "this machine"},
		{[]string{"snapshot", "restore", "file"}, "[config data-dir]"},
		{[]string{"nonsense"}, "nonsense"},
	} {
		t.Run(fmt.Sprint(test.args), func(t *testing.T) {
			code, _, stderr := command(t, nil, test.args...)
			if code != exitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
}
