package acmetest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// patience is how long a program may take to come up or to end. It is long because the machine may be busy.
const patience = 40 * time.Second

// process is a program that runs until the end of its test.
type process struct {
	output lockedBuffer
	exited chan struct{} // closed after it has been waited for

	mu  sync.Mutex
	pid int
}

// start runs the command until the test ends, and shows its output if the test fails.
func start(t T, command *exec.Cmd) *process {
	t.Helper()
	p := &process{exited: make(chan struct{})}
	command.Stdout, command.Stderr = &p.output, &p.output
	if command.SysProcAttr == nil {
		command.SysProcAttr = new(syscall.SysProcAttr)
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	command.SysProcAttr.Setpgid = true // a Ctrl-C at the terminal is the test's to handle
	started := make(chan error)
	go p.run(command, started)
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", command.Path, err)
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", command.Path, p.output.String())
		}
	})
	return p
}

// run keeps to one thread: the parent death signal is sent when the thread that started the process ends.
func (p *process) run(command *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := command.Start()
	if err == nil {
		p.pid = command.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	_ = command.Wait() // how it ended stands in its output
	p.mu.Lock()
	p.pid = 0
	p.mu.Unlock()
	close(p.exited)
}

// signal sends to the process, unless it has ended: its id may be somebody else's by then.
func (p *process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid != 0 {
		_ = syscall.Kill(p.pid, signal)
	}
}

// stop ends the process, and returns when it is gone.
func (p *process) stop() {
	p.signal(syscall.SIGCONT) // a test may have frozen it
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// await polls until ready reports true, and reports false when the process ended before that.
func (p *process) await(t T, name string, ready func() bool) bool {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.exited:
			return false
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was not ready within %s:\n%s", name, patience, p.output.String())
		}
	}
	return true
}

// lockedBuffer is a buffer that is written and read by different goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// freePort finds a port on loopback that nobody has, for TCP and UDP. It may be taken again before it is used, so
// whoever starts a program on it must be ready to try another.
func freePort(t T) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		datagrams, err := net.ListenPacket("udp", loopback(port))
		l.Close()
		if err == nil {
			datagrams.Close()
			return port
		}
	}
	t.Fatal("found no port that is free for TCP and UDP")
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// unprivileged returns the credentials of the first of the users that exists, or nil when the test is not root.
func unprivileged(names ...string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range names {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("there is none of the users %q to run a server as", names)
}
