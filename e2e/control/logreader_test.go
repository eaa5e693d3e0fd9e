package control

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// unreadLogs are places to log to of which nothing good comes: a pipe that is full and that nobody reads, one whose reader is gone,
// and a full disk.
func unreadLogs(t *testing.T) map[string]*os.File {
	t.Helper()
	pipe := func() (read, write *os.File) {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { read.Close(); write.Close() })
		return read, write
	}
	_, full := pipe()
	raw, err := full.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Write(func(fd uintptr) bool {
		for err == nil { // Go's pipes don't block
			_, err = syscall.Write(int(fd), make([]byte, 4096))
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if err != syscall.EAGAIN {
		t.Fatalf("the pipe is full: %v", err)
	}
	gone, broken := pipe()
	gone.Close()
	logs := map[string]*os.File{"stands still": full, "is gone": broken}
	if disk, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		t.Cleanup(func() { disk.Close() })
		logs["has a full disk"] = disk
	}
	return logs
}

// Whatever becomes of the reader of their logs, daemon and agent start, let in, take away, and end.
func TestReaderOfTheirLogsHoldsUpNeitherDaemonNorAgent(t *testing.T) {
	t.Parallel()
	for name, log := range unreadLogs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			p := &plane{Dir: dir, client: filepath.Join(dir, "client.yaml")}
			p.process = launchUnread(t, log, "the daemon", pgmtlsPath, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
			eventually.OK(t, patience, func() error {
				select {
				case <-p.ended:
					t.Fatalf("the daemon has ended: %v", p.command.ProcessState)
				default:
				}
				if result := p.run(t, "databases"); result.code != 0 {
					return fmt.Errorf("%s", result.stderr)
				}
				return nil
			})
			near := p.enable(t, "shop")
			far := newFront(t, t.TempDir())
			p.do(t, "proxies", "add", "shop", "edge")
			files := t.TempDir()
			p.do(t, "agents", "create", "shop", "edge", "--dir", files)
			agent := launchUnread(t, log, "the agent", pgmtlsPath, "agent", "--database", "shop", "--control", p.url(t),
				"--ca", filepath.Join(files, "control-ca.pem"), "--token-file", filepath.Join(files, "agent.token"),
				"--state", filepath.Join(files, "state"), "--policy-dir", far.PolicyDir, "--admin", far.Admin)
			p.letIn(t, "shop") // waits for both proxies
			for _, f := range []*front{near, far} {
				p.download(t, f, "shop", "").comesIn(t)
			}
			p.do(t, "ip-rules", "delete", "shop", "--cidr", "127.0.0.0/8", "--wait")
			for _, f := range []*front{near, far} {
				p.download(t, f, "shop", "").staysOut(t, "127.0.0.1")
			}
			agent.stop(t)
			if name != "stands still" {
				var health struct {
					Lost int `json:"log_lines_dropped"`
				}
				p.web(t, p.admin(t)).gets(t, 200, "GET /v1/health", "", &health)
				if health.Lost == 0 {
					t.Error("the daemon counts no lost line")
				}
			}
			p.stop(t)
		})
	}
}
