package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// imageUser is the user and the group of the image (Dockerfile).
const imageUser = 65532

// inImage is a command of the program in the image: an empty root, a numeric user that no file knows, no environment.
func inImage(root string, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: "/pgmtls-proxy",
		Args: append([]string{"/pgmtls-proxy"}, args...),
		Dir:  "/",
		Env:  []string{},
		SysProcAttr: &syscall.SysProcAttr{
			Chroot:     root,
			Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser},
		},
	}
}

// The image has one file. Everything else comes in volumes, whose files belong to root and, as Kubernetes' fsGroup does it,
// to the group of the user.
func TestStaticProgramServesFromAnEmptyRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may change the root")
	}
	s := server(t)
	root := t.TempDir()
	binary, err := os.ReadFile(shipped(t))
	must.OK(t, err)
	must.OK(t, testpki.WriteFile(filepath.Join(root, "pgmtls-proxy"), binary, 0o755))
	must.OK(t, os.Chmod(root, 0o755))
	mounted := filepath.Join(root, "etc", "pgmtls-proxy")
	must.OK(t, os.MkdirAll(mounted, 0o755))
	admin := freeAddress(t)
	p := prepared(t, mounted, options{Backend: fmt.Sprintf("127.0.0.1:%d", s.Port), Config: map[string]any{"admin": admin}})
	keys, err := filepath.Glob(filepath.Join(p.PolicyDir, "*.key"))
	must.OK(t, err)
	for _, key := range keys {
		must.OK(t, os.Chown(key, 0, imageUser))
		must.OK(t, os.Chmod(key, 0o640))
	}

	const config = "/etc/pgmtls-proxy/proxy.yaml"
	health := func(args ...string) (string, error) {
		output, err := inImage(root, append([]string{"health", "--config", config}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(output)), err
	}
	if text, err := health(); err == nil {
		t.Errorf("health says %q of a proxy that does not run", text)
	}
	p.execute(t, inImage(root, "--config", config))
	p.learnAddresses(t)
	eventually.OK(t, patience, p.ready)
	for _, args := range [][]string{nil, {"--ready"}} {
		if text, err := health(args...); err != nil || text != "ok" {
			t.Errorf("health %v says %q, %v", args, text, err)
		}
	}
	p.succeeds(t, "")
	p.edit(t, nobody)
	p.staysOut(t, "app", "no allowlist entry for host")
	must.OK(t, os.Remove(p.policyFile("policy.yaml")))
	p.waitComplaint(t)
	p.stop(t)
	if text, err := health(); err == nil {
		t.Errorf("health says %q of a proxy that has ended", text)
	}
}

// freeAddress is an address of the loopback network that nobody listens on right now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
