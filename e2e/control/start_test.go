package control

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The way to begin of docs/control-plane.md, in which nobody makes a directory, and the proxy runs before there is
// anything for it.
func TestBeginningAsDocumented(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	dir := filepath.Join(p.Dir, "policies", "shop")
	f := newFront(t, dir)
	p.do(t, "databases", "create", "shop", "--host", "localhost", "--proxy", "local", "--policy-dir", dir, "--admin", f.Admin)
	p.do(t, "mtls", "create", "shop", "--wait")
	p.letIn(t, "shop")
	p.download(t, f, "shop", "").comesIn(t)
	for path, mode := range map[string]os.FileMode{
		"": 0o700, "etcd": 0o700, "master.key": 0o600, "admin.token": 0o600, "policies": 0o700, "policies/shop": 0o750,
	} {
		if info, err := os.Stat(filepath.Join(p.Dir, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode(), err, mode)
		}
	}
	p.read(t, &struct{ Client string }{}, "version")
	if result := p.run(t, "databases", "shw"); result.code != 2 {
		t.Errorf("wrong usage ends with %d: %s", result.code, result.stderr)
	}
	p.stop(t)
	p.refuses(t, "pgmtls serve", "databases")
	if _, stderr, code := program(t, pgmtlsPath, "serve", "--data-dir", ""); code != 2 {
		t.Errorf("serve without a directory ends with %d: %s", code, stderr)
	}
}

// A second daemon on the same data directory would be the end of it.
func TestOneDaemonADirectory(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	if _, stderr, code := program(t, pgmtlsPath, "serve", "--data-dir", p.Dir, "--listen", "127.0.0.1:0"); code != 1 || !strings.Contains(stderr, "another daemon") {
		t.Errorf("the second daemon ends with %d: %s", code, stderr)
	}
	p.do(t, "databases")
}

// Someone who is served when the daemon is told to stop gets the answer; a stream is ended.
func TestDaemonStopsInTime(t *testing.T) {
	t.Parallel()
	p := configured(t, nil)
	w := p.web(t, p.admin(t))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.dress(request)
	stream, err := w.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("the daemon ends with %d", code)
	}
	p.start(t)
	p.do(t, "databases")
}

// Whoever follows the events is told of each change once, in its order, also over a restart of who follows.
func TestEventsCanBeFollowed(t *testing.T) {
	t.Parallel()
	p, _, w := newShop(t)
	w.gets(t, http.StatusCreated, "POST "+endpointPath, "", nil)
	w.polled(t, endpointPath, "status", "Operational")
	var trail struct{ Records []fields }
	w.gets(t, http.StatusOK, "GET /v1/audit?limit=1", "", &trail)
	last := trail.Records[0].text("id")
	for i := range 4 {
		w.rule(t, fmt.Sprintf("198.51.100.%d/32", i), "")
	}
	var heard []string
	for range 2 { // the second time from where the first has stopped
		last, heard = p.hear(t, last, heard, len(heard)+2)
	}
	if want := "198.51.100.0/32 198.51.100.1/32 198.51.100.2/32 198.51.100.3/32"; strings.Join(heard, " ") != want {
		t.Errorf("heard %q, want %s", heard, want)
	}
}

// hear follows the events behind one with the command line until it has heard of so many rules that were created.
func (p *plane) hear(t testing.TB, after string, heard []string, until int) (string, []string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), pgmtlsPath, "events", "--json", "--database", "shop", "--after", after)
	command.Env = append(os.Environ(), raceOptions, "PGMTLS_CONFIG="+p.client)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGINT) }
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(patience, func() { command.Process.Kill() })
	defer stop.Stop()
	lines := bufio.NewScanner(out)
	for len(heard) < until && lines.Scan() {
		record := decoded(t, lines.Bytes())
		after = record.text("id")
		if detail, ok := record["detail"].(map[string]any); ok && record.text("action") == "ip_rule.create" {
			heard = append(heard, fmt.Sprint(detail["cidr"]))
		}
	}
	command.Process.Signal(syscall.SIGINT)
	io.Copy(io.Discard, out)
	command.Wait() // by the signal, or with 0
	if len(heard) < until {
		t.Fatalf("heard only %q: %v", heard, lines.Err())
	}
	return after, heard
}
