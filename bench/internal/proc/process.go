// Package proc runs the programs that are measured, and reads from the kernel what they have used.
//
// It knows nothing of what they do. Linux only, as the bench is.
package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Program says what to run.
type Program struct {
	Path    string
	Args    []string
	Cores   int      // how many processors it may use, the first ones; 0: all
	Dir     string   // the working directory
	Log     string   // the file that gets standard output and error
	Env     []string // beside PATH and the language, which are all that it gets of its own accord
	Account Account
}

// Process is a running program with all its children.
type Process struct {
	path   string
	log    string
	pid    int
	exited chan struct{} // closed after it has been waited for
}

// Start runs the program. Whoever starts it has to Stop it; should the bench be killed, the kernel sends it SIGTERM.
func Start(program Program) (*Process, error) {
	log, err := os.Create(program.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(program.Path, program.Args...)
	if program.Cores > 0 { // taskset becomes the program
		pinned := []string{"-c", "0-" + strconv.Itoa(program.Cores-1), program.Path}
		command = exec.Command("taskset", append(pinned, program.Args...)...)
	}
	command.Dir = program.Dir
	command.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, program.Env...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true, // a Ctrl-C at the terminal is the bench's to handle
		Pdeathsig:  syscall.SIGTERM,
		Credential: program.Account.credential,
	}
	p := &Process{path: program.Path, log: program.Log, exited: make(chan struct{})}
	started := make(chan error)
	go p.run(command, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the command and waits for its end on one thread: the parent death signal is sent when the thread that
// started the process ends.
func (p *Process) run(command *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		started <- err
		return
	}
	p.pid = command.Process.Pid
	started <- nil
	_ = command.Wait() // how it ended stands in its log
	close(p.exited)
}

// PID is the process id of the program itself.
func (p *Process) PID() int { return p.pid }

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop ends the program: asked first, then by force, which is an error.
func (p *Process) Stop() error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-p.exited:
			return nil
		default:
		}
		if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop %s (process %d): %w", p.path, p.pid, err)
		}
		select {
		case <-p.exited:
			if signal == syscall.SIGTERM {
				return nil
			}
			return fmt.Errorf("%s (process %d) had to be killed; its log ends with:\n%s", p.path, p.pid, p.LogTail())
		case <-time.After(10 * time.Second):
		}
	}
	return fmt.Errorf("%s (process %d) does not end", p.path, p.pid)
}

// LogTail is the end of what the program has printed.
func (p *Process) LogTail() string {
	const most = 2 << 10
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
