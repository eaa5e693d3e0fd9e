package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/must"
)

// underSystemd is a command that starts the proxy as systemd does: the sockets are the descriptors from 3 on, and the
// variables say so to the process with the id that the proxy is going to have.
func underSystemd(t *testing.T, p *proxy, notify string, sockets ...*os.File) *exec.Cmd {
	t.Helper()
	command := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", programPath, "--config", p.configFile())
	command.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66", "NOTIFY_SOCKET="+notify)
	if len(sockets) > 0 {
		command.Env = append(command.Env, "LISTEN_FDS="+strconv.Itoa(len(sockets)))
		command.ExtraFiles = sockets
	}
	return command
}

// notifications is the socket of which systemd reads how a service is.
func notifications(t *testing.T) (path string, socket *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e.") // a socket's path is short
	must.OK(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "notify")
	socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must.OK(t, err)
	t.Cleanup(func() { socket.Close() })
	return path, socket
}

// notified wants the next notification that is not just a new status, and gives all of its lines.
func notified(t *testing.T, socket *net.UnixConn, want string) (lines []string) {
	t.Helper()
	socket.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	for {
		n, err := socket.Read(buf)
		must.OK(t, err)
		lines = strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
		if strings.HasPrefix(lines[0], "STATUS=") {
			continue
		}
		if lines[0] != want {
			t.Fatalf("systemd is told %q, want %q", lines, want)
		}
		return lines
	}
}

// The socket of the unit wins over the addresses in proxy.yaml, and has connections before the process runs.
func TestSystemdHandsOverTheSocketAndIsTold(t *testing.T) {
	t.Parallel()
	server(t)
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must.OK(t, err)
	socket, err := listener.File()
	must.OK(t, err)
	listener.Close() // the socket goes on listening for as long as there is a descriptor of it
	defer socket.Close()
	notify, told := notifications(t)

	p := prepared(t, t.TempDir(), options{})
	p.Addr = listener.Addr().String()
	early := dial(t, p)
	early.send(t, sslRequest)

	p.execute(t, underSystemd(t, p, notify, socket))
	must.OK(t, socket.Close())
	notified(t, told, "READY=1")
	p.learnAddresses(t)
	if p.Addr != listener.Addr().String() {
		t.Errorf("the proxy listens at %s, want %s", p.Addr, listener.Addr())
	}
	must.OK(t, p.ready())
	p.succeeds(t, "")
	var answer [1]byte
	if _, err := early.Read(answer[:]); err != nil || answer[0] != 'S' {
		t.Fatalf("the answer to who came before the process is %q, %v", answer, err)
	}
	early.secure(t, clientTLS("app")).login(t, asPostgres())

	p.signal(t, syscall.SIGTERM)
	notified(t, told, "STOPPING=1")
	p.waitClosed(t)
	early.wantDrained(t)
	p.wait(t)
}

// A proxy that has no policy yet is up as far as systemd is concerned: the policy may come at any time, and systemd would
// kill it for being late.
func TestSystemdIsToldWithoutAPolicyToo(t *testing.T) {
	t.Parallel()
	server(t)
	notify, told := notifications(t)
	p := prepared(t, t.TempDir(), options{})
	must.OK(t, os.Remove(p.policyFile("policy.yaml")))
	p.execute(t, underSystemd(t, p, notify))
	if lines := notified(t, told, "READY=1"); len(lines) != 2 || !strings.HasPrefix(lines[1], "STATUS=no policy in force, every connection is refused: ") {
		t.Errorf("systemd is told %q", lines)
	}
	p.learnAddresses(t)
	if err := p.ready(); err == nil {
		t.Error("/readyz says yes")
	}
}

// Systemctl reload is over when the policy has been looked at, and what it shows says how that ended.
func TestSystemdIsToldOfReloads(t *testing.T) {
	t.Parallel()
	notify, told := notifications(t)
	p := prepared(t, t.TempDir(), options{Backend: record(t).Address})
	p.execute(t, underSystemd(t, p, notify))
	if lines := notified(t, told, "READY=1"); lines[len(lines)-1] != `STATUS=0 sessions; policy generation "1"` {
		t.Errorf("systemd is told %q", lines)
	}
	p.learnAddresses(t)
	writeFile(t, p.policyFile("policy.yaml"), []byte("generation: [\n"))
	p.signal(t, syscall.SIGHUP)
	if lines := notified(t, told, "RELOADING=1"); len(lines) < 2 || !strings.HasPrefix(lines[1], "MONOTONIC_USEC=") {
		t.Errorf("systemd is told %q", lines)
	}
	notified(t, told, "READY=1")
	if status := p.status(t); status.Reload.Error == "" {
		t.Error("the reload was over before the policy was looked at")
	}
	p.signal(t, syscall.SIGTERM)
	if lines := notified(t, told, "STOPPING=1"); lines[len(lines)-1] != "STATUS=draining; 0 sessions left" {
		t.Errorf("systemd is told %q", lines)
	}
	p.wait(t)
}

// A unit whose socket nobody can listen on, such as one for datagrams, is the operator's mistake and named as such.
func TestInheritedSocketThatDoesNotListenIsNamed(t *testing.T) {
	t.Parallel()
	server(t)
	datagrams, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must.OK(t, err)
	defer datagrams.Close()
	socket, err := datagrams.File()
	must.OK(t, err)
	defer socket.Close()
	p := prepared(t, t.TempDir(), options{})
	command := underSystemd(t, p, "", socket)
	output, err := command.CombinedOutput()
	if command.ProcessState.ExitCode() != 1 || !strings.Contains(string(output), "descriptor 3") {
		t.Errorf("the proxy ended with %v:\n%s", err, output)
	}
}
