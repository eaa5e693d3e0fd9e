package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"pgmtls-proxy/internal/testpki"
)

// writeProxyConfig writes the operator's file.
func (d *demo) writeProxyConfig() error {
	text := fmt.Sprintf(`listen: [%q]
backend:
  address: %q
policy_dir: policy
admin: %q
drain: {grace: 3s}
log: {level: info, format: json}
`, loopback(d.port), "unix:"+d.postgres.SocketPath, loopback(d.adminPort))
	return testpki.WriteFile(d.path("proxy.yaml"), []byte(text), 0o644)
}

// buildProxy builds the program that is shown, from the sources beside the demo. Git is not asked for a version: it
// refuses in a repository that belongs to another user, as one mounted into a container may.
func (d *demo) buildProxy(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", d.path("pgmtls-proxy"), "pgmtls-proxy/cmd/pgmtls-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the proxy: %w\n%s", err, output)
	}
	return nil
}

// checkConfiguration lets the proxy say what it makes of its files, before it is started.
func (d *demo) checkConfiguration(ctx context.Context) error {
	d.show.command("./pgmtls-proxy", "check", "--config", "proxy.yaml")
	check := exec.CommandContext(ctx, "./pgmtls-proxy", "check", "--config", "proxy.yaml")
	check.Dir = d.state()
	check.Stdout = d.show.indented()
	check.Stderr = check.Stdout
	if err := check.Run(); err != nil {
		return fmt.Errorf("pgmtls-proxy check: %w", err)
	}
	return nil
}

// proxy is the running pgmtls-proxy.
type proxy struct {
	command *exec.Cmd
	exited  chan struct{} // closed after the process has been waited for
}

// startProxy starts it, with its log in a file, and returns when it serves.
func (d *demo) startProxy(ctx context.Context) error {
	log, err := os.Create(d.path("proxy.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.show.line("%s./pgmtls-proxy --config proxy.yaml 2> proxy.log &", d.show.paint(bold, "$ "))
	command := exec.Command("./pgmtls-proxy", "--config", "proxy.yaml")
	command.Dir = d.state()
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // a Ctrl-C at the terminal is the demo's to handle
		Pdeathsig: syscall.SIGTERM, // a demo that is killed leaves nothing behind
	}
	p := &proxy{command: command, exited: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return err
	}
	d.proxy = p
	return until(ctx, d.ready)
}

// run starts the process and waits for its end on one thread: the parent death signal is sent when the thread
// that started the process ends, which need not be when the program ends.
func (p *proxy) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.command.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.command.Wait() // how it ended is in its ProcessState
	close(p.exited)
}

// ready asks the proxy whether it serves.
func (d *demo) ready(ctx context.Context) error {
	select {
	case <-d.proxy.exited:
		return fmt.Errorf("the proxy has ended; the end of its log:\n%s", tail(d.path("proxy.log")))
	default:
	}
	_, err := d.get(ctx, "/readyz")
	return err
}

// stopProxy ends it as systemd or Kubernetes would. Sessions of people who tried the demo by hand have the
// grace of proxy.yaml; if they outlast it, the exit code is 3.
func (d *demo) stopProxy() error {
	const cutOff, most = 3, 15 * time.Second
	process := d.proxy.command.Process
	if err := process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the proxy (process %d): %w", process.Pid, err)
	}
	select {
	case <-d.proxy.exited:
	case <-time.After(most):
		_ = process.Kill()
		<-d.proxy.exited
		return fmt.Errorf("the proxy (process %d) did not end within %s and was killed", process.Pid, most)
	}
	code := d.proxy.command.ProcessState.ExitCode()
	d.show.line("")
	d.show.say("The proxy (process %d) has ended, with exit code %d.", process.Pid, code)
	if code != 0 && code != cutOff {
		return fmt.Errorf("the proxy ended with exit code %d; the end of its log:\n%s", code, tail(d.path("proxy.log")))
	}
	return nil
}
