package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/testkit/eventually"
)

// options say which proxy to start. The zero value is one in front of the package's PostgreSQL, by its unix socket,
// with the [usualPolicy].
type options struct {
	// Backend is backend.address; empty means the package's PostgreSQL.
	Backend string
	// Config is put over the tests' own proxy.yaml, key by key of the top level.
	Config map[string]any
	// Policy changes the policy before the start.
	Policy func(*policy)
	// PolicyText, if set, is written to policy.yaml as it is, and the proxy need not become ready.
	PolicyText string
	// Env is added to the process's environment.
	Env []string
	// ExitCode is what [proxy.stop] expects; usually 0.
	ExitCode int
}

// proxy is a running pgmtls-proxy.
type proxy struct {
	Addr      string // where clients connect: 127.0.0.1 and a port
	Admin     string // the admin endpoint's address
	Dir       string // of proxy.yaml
	PolicyDir string

	policy  policy // what was written last; see edit
	command *exec.Cmd
	log     *eventLog
	ended   chan struct{} // closed after the process has been waited for
	options options
	stopped bool
}

// start runs a proxy until the end of the test, and returns when it is ready. It stops with the checks of [proxy.stop].
func start(t testing.TB, o options) *proxy {
	t.Helper()
	p := launch(t, o)
	eventually.OK(t, patience, func() error {
		if o.PolicyText == "" {
			return p.ready()
		}
		_, err := p.get("/livez")
		return err
	})
	return p
}

// launch is [start] without waiting for more than the addresses.
func launch(t testing.TB, o options) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{Dir: dir, PolicyDir: filepath.Join(dir, "policy"), policy: usualPolicy(), options: o, log: newEventLog(), ended: make(chan struct{})}
	if o.Policy != nil {
		o.Policy(&p.policy)
	}
	writePolicyDir(t, p.PolicyDir, p.policy)
	if o.PolicyText != "" {
		writeFile(t, p.policyFile("policy.yaml"), []byte(o.PolicyText))
	}
	writeFile(t, p.configFile(), configText(t, o))

	p.command = exec.Command(programPath, "--config", p.configFile())
	p.command.Env = append(os.Environ(), append(o.Env, "GORACE=halt_on_error=0 exitcode=66")...)
	p.command.Stderr = p.log
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.command.Wait() // the exit code is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() { p.stop(t) })
	p.learnAddresses(t)
	return p
}

// configText is proxy.yaml.
func configText(t testing.TB, o options) []byte {
	t.Helper()
	backend := o.Backend
	if backend == "" {
		backend = "unix:" + postgres.Server(t).SocketPath
	}
	config := map[string]any{
		"listen":  []string{"127.0.0.1:0"},
		"admin":   "127.0.0.1:0",
		"backend": map[string]any{"address": backend},
		"drain":   map[string]any{"grace": "10s"},
		"log":     map[string]any{"level": "debug"},
	}
	maps.Copy(config, o.Config)
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func (p *proxy) configFile() string { return filepath.Join(p.Dir, "proxy.yaml") }

// learnAddresses reads from the log which ports the kernel has chosen.
func (p *proxy) learnAddresses(t testing.TB) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		select {
		case <-p.ended:
			t.Fatalf("the proxy has ended: %v\n%s", p.command.ProcessState, p.log.tail())
		default:
		}
		serving := p.log.find(func(e event) bool { return e.text("message") == "serving" })
		if serving == nil {
			return fmt.Errorf("the proxy does not serve; its log:\n%s", p.log.tail())
		}
		p.Admin = serving.text("admin")
		listen, _ := serving["listen"].([]any)
		if len(listen) == 0 {
			return errors.New("the log has no listen address")
		}
		p.Addr = fmt.Sprint(listen[0])
		return nil
	})
}

func (p *proxy) port() string {
	_, port, _ := net.SplitHostPort(p.Addr)
	return port
}

// signal sends a signal to the process.
func (p *proxy) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatalf("signal the proxy: %v", err)
	}
}

// wait waits for the process to end and gives its exit code.
func (p *proxy) wait(t testing.TB) int {
	t.Helper()
	limit := time.NewTimer(2 * patience)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		// Every goroutine's stack comes into the log, and so into the test's output.
		p.command.Process.Signal(syscall.SIGQUIT)
		<-p.ended
		t.Errorf("the proxy did not end; its log:\n%s", p.log.tail())
	}
	return p.command.ProcessState.ExitCode()
}

// stop drains the proxy, if it still runs, and checks what holds for every proxy. It is called at the test's end;
// a test that wants to see what the end leaves behind calls it before.
func (p *proxy) stop(t testing.TB) {
	t.Helper()
	if p.stopped {
		return
	}
	p.stopped = true
	select {
	case <-p.ended:
	default:
		if n := p.metric(t, "pgmtls_panics_total"); n != 0 {
			t.Errorf("pgmtls_panics_total is %v", n)
		}
		p.command.Process.Signal(syscall.SIGTERM)
	}
	if code := p.wait(t); code != p.options.ExitCode {
		t.Errorf("the proxy ended with exit code %d, want %d", code, p.options.ExitCode)
	}
	p.log.check(t)
	if t.Failed() {
		t.Logf("the proxy's log:\n%s", p.log.tail())
	}
}

// program runs a command of the program to its end: check, version, health and wrong usage.
func program(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, programPath, args...)
	var out, errs strings.Builder
	command.Stdout, command.Stderr = &out, &errs
	err := command.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), errs.String(), command.ProcessState.ExitCode()
}

// limitDescriptors lowers the process's limit on open files while it runs.
func limitDescriptors(t testing.TB, p *proxy, n uint64) {
	t.Helper()
	limit := unix.Rlimit{Cur: n, Max: n}
	if err := unix.Prlimit(p.command.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}
