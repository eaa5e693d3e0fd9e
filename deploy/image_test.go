package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// imageUser is the user and the group of the image.
const imageUser = 65532

// image is an empty root with the two programs, and volumes as a kubelet mounts them.
type image struct {
	t    *testing.T
	root string
}

func newImage(t *testing.T) image {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may change the root")
	}
	i := image{t, t.TempDir()}
	i.done(os.Chmod(i.root, 0o755))
	build := exec.Command("go", "build", "-o", i.root+"/", "../cmd/pgmtls", "../cmd/pgmtls-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	// Of a container everybody has these.
	i.volume("/tmp", 0, 0o1777)
	return i
}

func (i image) done(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// volume makes a directory of root's and a group's.
func (i image) volume(path string, group int, mode fs.FileMode) {
	i.t.Helper()
	dir := filepath.Join(i.root, path)
	i.done(os.MkdirAll(dir, 0o755))
	i.done(os.Chown(dir, 0, group))
	i.done(syscall.Chmod(dir, uint32(mode))) // with the sticky bit and that of the group
}

// file makes one that belongs to root and may be read by the image's group.
func (i image) file(path, text string) {
	i.t.Helper()
	path = filepath.Join(i.root, path)
	i.done(os.MkdirAll(filepath.Dir(path), 0o755))
	i.done(os.WriteFile(path, []byte(text), 0o440))
	i.done(os.Chown(path, 0, imageUser))
}

// command is one of the image's programs, as its user.
func (i image) command(env []string, args ...string) *exec.Cmd {
	return &exec.Cmd{Path: args[0], Args: args, Dir: "/", Env: append([]string{}, env...), SysProcAttr: &syscall.SysProcAttr{
		Chroot: i.root, Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser},
	}}
}

// start runs a program until the test's end. It has to end well when it is told to.
func (i image) start(env []string, args ...string) {
	i.t.Helper()
	cmd := i.command(env, args...)
	var log locked
	cmd.Stdout, cmd.Stderr = &log, &log
	i.done(cmd.Start())
	i.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		if err != nil {
			i.t.Errorf("%s: %v", args, err)
		}
		if i.t.Failed() {
			i.t.Logf("%s\n%s", args, log.String())
		}
	})
}

// locked is a buffer for the output of a program that still runs.
type locked struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// eventually waits until a look succeeds.
func (i image) eventually(what string, look func() error) {
	i.t.Helper()
	last := errors.New("it was not looked at")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if last = look(); last == nil {
			return
		}
	}
	i.t.Fatalf("%s: %v", what, last)
}

// The manifests are put on their feet: the users, modes and paths of both, in an image without anything else. Only the
// addresses are others.
func TestManifestsOfTheControlPlaneWorkInTheImage(t *testing.T) {
	control, all := controlOf(t)
	i := newImage(t)
	text := string(configMap(t, all, "pgmtls", "pgmtls.yaml"))
	i.file("/etc/pgmtls/pgmtls.yaml", strings.Replace(text, "[::]:9816", "127.0.0.1:0", 1))
	i.file(control.MasterKeyFile, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
	i.volume("/var/lib/pgmtls", imageUser, 0o2775)
	i.volume("/var/lib/pgmtls-agent", imageUser, 0o2775)
	i.volume("/run/postgresql", imageUser, 0o2777)
	i.start(nil, slices.Concat([]string{"/pgmtls"}, containerOf(t, pod(t, all), "pgmtls").Args)...)

	settings := []string{"PGMTLS_CONFIG=" + control.DataDir + "/client.yaml"}
	ask := func(args ...string) []byte {
		t.Helper()
		cmd := i.command(settings, append([]string{"/pgmtls"}, args...)...)
		var problem bytes.Buffer
		cmd.Stderr = &problem
		output, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, problem.Bytes())
		}
		return output
	}
	i.eventually("the daemon serves", func() error { return i.command(settings, "/pgmtls", "databases").Run() })
	ask("databases", "create", "shop", "--host", "shop.example.com")
	ask("proxies", "add", "shop", "postgres-0")
	var enrolment struct {
		Token     string
		ControlCA string `json:"control_ca"`
	}
	i.done(json.Unmarshal(ask("agents", "create", "shop", "postgres-0", "--json"), &enrolment))

	const admin = "unix:/tmp/admin.sock"
	all = manifests(t, "kubernetes/agent.yaml")
	i.file("/etc/pgmtls-enrolment/control-ca.pem", enrolment.ControlCA)
	i.file("/etc/pgmtls-proxy/proxy.yaml", strings.NewReplacer("[::]:5432", "127.0.0.1:0", "127.0.0.1:9815", admin).
		Replace(string(configMap(t, all, "pgmtls-proxy", "proxy.yaml"))))
	i.start(nil, slices.Concat([]string{"/pgmtls-proxy"}, containerOf(t, pod(t, all), "pgmtls-proxy").Args)...)

	var client struct{ URL string }
	kept, err := os.ReadFile(filepath.Join(i.root, control.DataDir, "client.yaml"))
	i.done(err)
	for line := range strings.Lines(string(kept)) {
		if value, ok := strings.CutPrefix(line, "url: "); ok {
			client.URL = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	args := []string{"/pgmtls"}
	for _, arg := range containerOf(t, pod(t, all), "pgmtls-agent").Args {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--control":
			arg = name + "=" + client.URL
		case "--admin":
			arg = name + "=" + admin
		}
		args = append(args, arg)
	}
	i.start([]string{"PGMTLS_ENROLL_TOKEN=" + enrolment.Token + "\n"}, args...)

	ask("mtls", "create", "shop", "--wait")
	ask("ip-rules", "create", "shop", "--cidr", "203.0.113.7/32", "--wait")
	ask("ip-rules", "delete", "shop", "--cidr", "203.0.113.7/32", "--wait")
}
