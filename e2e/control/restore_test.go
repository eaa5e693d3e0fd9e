package control

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// The disk is lost with everything on it: the store, the key, and the policy directories below the data directory. Only
// the proxy knows that there was a newer generation.
func TestPoliciesLostWithTheStoreDoNotSetProxiesBack(t *testing.T) {
	t.Parallel()
	p := configured(t, nil)
	f := newFront(t, p.policyDir(t, "shop"))
	p.do(t, "databases", "create", "shop", "--host", "localhost", "--proxy", "local", "--policy-dir", f.PolicyDir, "--admin", f.Admin)
	p.do(t, "mtls", "create", "shop", "--wait")
	p.letIn(t, "shop")
	keep := t.TempDir()
	snapshot, master := filepath.Join(keep, "snapshot"), readFile(t, filepath.Join(p.Dir, "master.key"))
	p.do(t, "snapshot", "save", snapshot)
	for i := range 3 {
		p.do(t, "ip-rules", "create", "shop", "--cidr", fmt.Sprintf("198.51.100.%d/32", i), "--wait")
	}
	newest := p.web(t, p.admin(t)).caughtUp(t)
	token := p.admin(t)
	p.kill(t)
	if err := os.RemoveAll(p.Dir); err != nil {
		t.Fatal(err)
	}

	p.do(t, "snapshot", "restore", snapshot, "--config", p.args[1])
	writeFile(t, filepath.Join(p.Dir, "master.key"), master)
	writeFile(t, filepath.Join(p.Dir, "admin.token"), token+"\n")
	p.start(t)
	w := p.web(t, token)
	eventually.OK(t, patience, func() error {
		if a := w.acknowledged(t); !a.InForce || a.Generation <= newest {
			return errNotYet(a)
		}
		return nil
	})
	var trail struct{ Records []fields }
	w.gets(t, http.StatusOK, "GET /v1/audit?action=policy.overtaken", "", &trail)
	if len(trail.Records) == 0 {
		t.Error("the audit trail does not tell of it")
	}
	p.do(t, "ip-rules", "create", "shop", "--cidr", "198.51.100.9/32", "--wait")
	f.checked(t)
}

// The commands are those of docs/control-plane.md, with the paths of this test.
func TestDocumentedRestoreWorksWordForWord(t *testing.T) {
	t.Parallel()
	p := configured(t, map[string]any{"names": []string{"control.example"}})
	p.do(t, "databases", "create", "shop", "--host", "localhost")
	dir := t.TempDir()
	p.do(t, "snapshot", "save", filepath.Join(dir, "pgmtls.snapshot"))
	writeFile(t, filepath.Join(dir, "master.key"), readFile(t, filepath.Join(p.Dir, "master.key")))
	p.stop(t)
	if err := os.RemoveAll(p.Dir); err != nil {
		t.Fatal(err)
	}

	_, section, found := strings.Cut(readFile(t, "../../docs/control-plane.md"), "\n### Restore\n")
	_, block, fenced := strings.Cut(section, "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	if !found || !fenced {
		t.Fatal("docs/control-plane.md has no commands of a restore")
	}
	block = strings.NewReplacer("/etc/pgmtls/pgmtls.yaml", p.args[1], "/var/lib/pgmtls", p.Dir).Replace(block)
	lines := strings.Split(strings.TrimSpace(block), "\n")
	last := lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		if _, stderr, code := program(t, "/bin/sh", "-c", "cd "+dir+" && PATH="+filepath.Dir(pgmtlsPath)+":$PATH && "+line); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", line, code, stderr)
		}
	}
	args, isServe := strings.CutPrefix(last, "pgmtls serve ")
	if !isServe {
		t.Fatalf("the last command is %s", last)
	}
	args, _, _ = strings.Cut(args, "#")
	p.args = strings.Fields(args)
	p.start(t)
	says(t, p.do(t, "databases"), "shop")
	// Who knows the API by its configured name still may.
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(t, filepath.Join(p.Dir, "control-ca.pem"))))
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url(t), "https://"), &tls.Config{RootCAs: roots, ServerName: "control.example"})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
