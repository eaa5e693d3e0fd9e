package proc

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Program{Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	// The group too: a shell that ends leaves its children alone.
	t.Cleanup(func() { _ = syscall.Kill(-p.PID(), syscall.SIGKILL) })
	return p
}

// until polls, since nothing tells when another process has come so far.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestUsageAndMemoryCountTheChildren(t *testing.T) {
	// The child works for a while and then waits; its parent does nothing but wait.
	p := start(t, `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec sleep 60'; :`)
	until(t, "the child's CPU time shows", func() bool {
		usage, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		return usage.CPU > 50*time.Millisecond && usage.Switches > 0
	})
	own, err := proportional(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if all, err := p.Memory(); err != nil || all <= own {
		t.Errorf("with its child it has %d bytes, alone %d (%v)", all, own, err)
	}
}

func TestStopEndsTheProgram(t *testing.T) {
	p := start(t, `exec sleep 60`)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("it has not ended")
	}
	if err := p.Stop(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestUsageOfAProgramThatEndedIsAnError(t *testing.T) {
	p := start(t, `:`)
	<-p.Exited()
	if _, err := p.Usage(); err == nil {
		t.Error("there is no error")
	}
}
