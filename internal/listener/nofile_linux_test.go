package listener

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childVariable makes the test binary the server of TestRecoversFromDescriptorShortageWithinOneSecond.
const childVariable = "LISTENER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := serveWith64Descriptors(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveWith64Descriptors greets everyone with one byte, prints its address and then a line per failed accept, and
// ends when its standard input does.
func serveWith64Descriptors() error {
	limit := syscall.Rlimit{Cur: 64, Max: 64}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := &Server{
		Handle: func(_ context.Context, conn net.Conn) {
			defer conn.Close()
			conn.Write([]byte("!"))
			io.Copy(io.Discard, conn)
		},
		OnAcceptError: func(err error, wait time.Duration) { fmt.Println(wait, err) },
	}
	ended := serve(s, l)
	io.Copy(io.Discard, os.Stdin)
	s.CloseListeners()
	return <-ended
}

// TestRecoversFromDescriptorShortageWithinOneSecond is threat 25.
func TestRecoversFromDescriptorShortageWithinOneSecond(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"=1")
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(30*time.Second, func() { child.Process.Kill() })
	defer watchdog.Stop()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatal("the child did not start")
	}
	address := lines.Text()

	var sockets []net.Conn
	for range 100 {
		sockets = append(sockets, dial(t, address))
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), "too many open files") {
		t.Fatalf("after 100 sockets the child says %q, want a failed accept", lines.Text())
	}
	for _, socket := range sockets {
		socket.Close()
	}

	start := time.Now()
	client := dial(t, address)
	client.SetDeadline(start.Add(time.Minute)) // how long the accept loop may pause, TestShortageBacksOffFrom5msTo1sAndASuccessStartsAnew shows
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatalf("after the shortage: %v", err)
	}
	t.Logf("served %v after the shortage", time.Since(start))

	failures := 1
	stdin.Close()
	for lines.Scan() {
		failures++
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the child ends with %v", err)
	}
	if failures > 20 {
		t.Errorf("%d failed accepts in so short a shortage: it spins", failures)
	}
}
