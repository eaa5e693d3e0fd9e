package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// build builds the programs that are shown, from the sources beside the demo. Git is not asked for a version: it refuses in
// a repository that belongs to another user, as one mounted into a container may.
func (d *demo) build(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", d.path("bin")+"/",
		"pgmtls-proxy/cmd/pgmtls", "pgmtls-proxy/cmd/pgmtls-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, output)
	}
	return nil
}

// program is a pgmtls or a pgmtls-proxy that runs in the background.
type program struct {
	name, log string // log: file in the directory of this run
	command   *exec.Cmd
	exited    chan struct{} // closed after the process has been waited for
}

// start starts a program with its standard error at the end of a log file, and shows how.
func (d *demo) start(p program, args ...string) (*program, error) {
	log, err := os.OpenFile(d.path(p.log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.show.typed(commandLine(append([]string{p.name}, args...)...) + " 2>> " + p.log + " &")
	p.command = exec.Command(d.path("bin", p.name), args...)
	p.command.Dir = d.state()
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // a Ctrl-C at the terminal is the demo's to handle
		Pdeathsig: syscall.SIGTERM, // a demo that is killed leaves nothing behind
	}
	p.exited = make(chan struct{})
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return &p, nil
}

// run starts the process and waits for its end on one thread: the parent death signal is sent when the thread
// that started the process ends, which need not be when the program ends.
func (p *program) run(started chan<- error) {
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

// unlessEnded waits for something that a program is to do, and gives up when the program has ended.
func (d *demo) unlessEnded(ctx context.Context, p *program, wait func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-p.exited:
			cancel()
		case <-ctx.Done():
		}
	})
	err := wait(ctx)
	select {
	case <-p.exited:
		return d.ended(p)
	default:
		return err
	}
}

// ended says that a program has, and why.
func (d *demo) ended(p *program) error {
	return fmt.Errorf("%s has ended; the end of its log:\n%s", p.name, tail(d.path(p.log)))
}

// stop ends a program as systemd or Kubernetes would. Sessions of people who tried the demo by hand have the grace of
// proxy.yaml; if they outlast it, the proxy's exit code is 3.
func (d *demo) stop(p *program) error {
	process := p.command.Process
	if err := process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s (process %d): %w", p.name, process.Pid, err)
	}
	return d.gone(p)
}

// gone waits for the end of a program that was told to end.
func (d *demo) gone(p *program) error {
	const cutOff = 3
	process := p.command.Process
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = process.Kill()
		<-p.exited
		return fmt.Errorf("%s (process %d) did not end within %s and was killed", p.name, process.Pid, patience)
	}
	code := p.command.ProcessState.ExitCode()
	d.show.say("%s (process %d) has ended, with exit code %d.", p.name, process.Pid, code)
	if code != 0 && code != cutOff {
		return d.ended(p)
	}
	return nil
}

// startControlPlane starts pgmtls serve, and returns when it answers.
func (d *demo) startControlPlane(ctx context.Context) (err error) {
	d.control, err = d.start(program{name: "pgmtls", log: "control.log"}, d.controlArgs...)
	if err != nil {
		return err
	}
	return d.unlessEnded(ctx, d.control, func(ctx context.Context) error {
		return d.comes(ctx, "pgmtls databases > /dev/null && echo up", "up")
	})
}

// writeProxyConfig writes the operator's file.
func (d *demo) writeProxyConfig() error {
	text := fmt.Sprintf(`listen: [%q]
backend: {address: %q}
policy_dir: control/policies/shop
admin: %q
drain: {grace: 3s}
`, loopback(d.port), "unix:"+d.postgres.SocketPath, loopback(d.adminPort))
	return os.WriteFile(d.path("proxy.yaml"), []byte(text), 0o644)
}

// startProxy starts a proxy, which takes over from the one that runs, if one does. It serves when it is done; without a
// policy it lets nobody in.
func (d *demo) startProxy(ctx context.Context) (*program, error) {
	before := time.Now()
	p, err := d.start(program{name: "pgmtls-proxy", log: "proxy.log"}, "--config", "proxy.yaml", "--takeover", "takeover.sock")
	if err != nil {
		return nil, err
	}
	return p, d.unlessEnded(ctx, p, func(ctx context.Context) error {
		return until(ctx, func(ctx context.Context) error {
			now, err := d.status(ctx)
			if err == nil && now.StartedAt.Before(before) {
				err = errors.New("the admin address is still that of the old proxy")
			}
			return err
		})
	})
}
