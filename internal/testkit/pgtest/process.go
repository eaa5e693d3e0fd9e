package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// serverEnvironment keeps PGDATA, locale and time zone of the machine away from the server.
var serverEnvironment = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}

const (
	startTimeout = 60 * time.Second // generous: a machine that runs several test programs may be slow
	fastTimeout  = 15 * time.Second
	quitTimeout  = 5 * time.Second
)

type processSpec struct {
	program string
	args    []string
	dataDir string
	logPath string
	account account
}

// process is one run of postgres.
type process struct {
	pid    int
	exited chan struct{} // closed after the process has been waited for
}

// startProcess runs the program and returns when the server accepts connections.
func startProcess(spec processSpec) (*process, error) {
	log, err := os.OpenFile(spec.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// What an earlier run said must not be taken for this one's.
	if err := os.Remove(filepath.Join(spec.dataDir, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	command := exec.Command(spec.program, spec.args...)
	command.Dir = spec.dataDir
	command.Env = serverEnvironment
	command.Stdout, command.Stderr = log, log
	// SIGQUIT is PostgreSQL's immediate shutdown: it ends the children as well.
	command.SysProcAttr = spec.account.attributes(syscall.SIGQUIT)

	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go p.run(command, started)
	if err := <-started; err != nil {
		return nil, err
	}
	if err := p.waitReady(spec.dataDir); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// run starts the command and waits for its end on one thread: the parent death signal is sent when the thread
// that started the process ends, which need not be when the program ends.
func (p *process) run(command *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		started <- err
		return
	}
	p.pid = command.Process.Pid
	started <- nil
	_ = command.Wait() // how it ended stands in its log; that it ended is what counts
	close(p.exited)
}

// waitReady waits for the word that pg_ctl waits for: the eighth line of postmaster.pid (miscadmin.h,
// LOCK_FILE_LINE_PM_STATUS).
func (p *process) waitReady(dataDir string) error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.exited:
			return errors.New("postgres ended while it started")
		case <-deadline.C:
			return fmt.Errorf("postgres was not ready within %s", startTimeout)
		case <-tick.C:
		}
		text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		lines := strings.Split(string(text), "\n")
		if len(lines) >= 8 && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
	}
}

// stop ends the process: fast, then immediate, then by force. Only the last is an error.
func (p *process) stop() error {
	steps := []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, fastTimeout}, {syscall.SIGQUIT, quitTimeout}, {syscall.SIGKILL, quitTimeout}}
	for _, step := range steps {
		// A frozen server (a test may have sent SIGSTOP) hears nothing until it goes on.
		if err := errors.Join(p.signal(step.signal), p.signal(syscall.SIGCONT)); err != nil {
			return err
		}
		select {
		case <-p.exited:
			if step.signal == syscall.SIGKILL {
				return fmt.Errorf("postgres (process %d) had to be killed", p.pid)
			}
			return nil
		case <-time.After(step.wait):
		}
	}
	return fmt.Errorf("postgres (process %d) does not end", p.pid)
}

// signal sends to the process, unless it has ended: its id may be somebody else's by then.
func (p *process) signal(signal syscall.Signal) error {
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal postgres (process %d): %w", p.pid, err)
	}
	return nil
}
