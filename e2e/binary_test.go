package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/must"
)

// staticProgram is the program as it is shipped: without the race detector, which takes memory of its own, and without the C
// library. It is built when the first test asks for it.
var staticProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(pki.dir, "static", "pgmtls-proxy")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../cmd/pgmtls-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the static program: %w\n%s", err, output)
	}
	return path, nil
})

// shipped gives the path of [staticProgram].
func shipped(t *testing.T) string {
	t.Helper()
	path, err := staticProgram()
	must.OK(t, err)
	return path
}

// prepared is a proxy in dir whose files are written and which does not run yet.
func prepared(t *testing.T, dir string, o options) *proxy {
	t.Helper()
	p := &proxy{Dir: dir, PolicyDir: filepath.Join(dir, "policy"), policy: usualPolicy(), options: o, log: newEventLog(), ended: make(chan struct{})}
	if o.Policy != nil {
		o.Policy(&p.policy)
	}
	writePolicyDir(t, p.PolicyDir, p.policy)
	writeFile(t, p.configFile(), configText(t, o))
	return p
}

// execute runs a command of the test's own as the proxy, as [launch] runs the usual one.
func (p *proxy) execute(t *testing.T, command *exec.Cmd) {
	t.Helper()
	p.command = command
	if command.Stderr == nil {
		command.Stderr = p.log
	}
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Setpgid = true
	must.OK(t, command.Start())
	go func() {
		command.Wait() // the exit code is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() { p.stop(t) })
}

// resident is the memory of the process in bytes: what it has now (VmRSS), or had at most (VmHWM).
func (p *proxy) resident(t *testing.T, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	must.OK(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			must.OK(t, err)
			return kib << 10
		}
	}
	t.Fatalf("/proc says nothing of %s", field)
	return 0
}
