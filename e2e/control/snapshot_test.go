package control

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// The control plane is lost with its disk. From a snapshot and the master key comes another one, and the proxies, which
// had newer policies, follow it: nobody goes back to an older generation, as every proxy's log is asked in the end.
func TestProxiesFollowARestoredControlPlane(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	relay := newRelay(t, p)
	beside, edge := newFront(t, p.policyDir(t, "shop")), newFront(t, filepath.Join(privateDir(t), "policy"))
	p.do(t, "databases", "create", "shop", "--host", "localhost", "--proxy", "beside", "--policy-dir", beside.PolicyDir, "--admin", beside.Admin)
	newHelper(t, p, relay, struct{ database, proxy string }{"shop", "edge"}, edge)
	p.do(t, "mtls", "create", "shop", "--wait")
	p.letIn(t, "shop")
	v := p.download(t, beside, "shop", "")
	keep := t.TempDir()
	snapshot, master := filepath.Join(keep, "snapshot"), readFile(t, filepath.Join(p.Dir, "master.key"))
	p.do(t, "snapshot", "save", snapshot)
	if info, err := os.Stat(snapshot); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the snapshot has mode %v, %v", info.Mode(), err)
	}
	if text := readFile(t, snapshot); strings.Contains(text, "PRIVATE KEY") || token.MatchString(text) {
		t.Error("the snapshot has a secret in clear")
	}

	// What comes after the snapshot is lost with the disk.
	for i := range 3 {
		p.do(t, "ip-rules", "create", "shop", "--cidr", fmt.Sprintf("198.51.100.%d/32", i), "--wait")
	}
	newest := p.web(t, p.admin(t)).caughtUp(t)
	live := v.converse(t)
	p.kill(t)
	relay.cut()
	token := p.admin(t)
	for _, lost := range []string{"etcd", "master.key", "admin.token", "client.yaml", "control-ca.pem"} {
		if err := os.RemoveAll(filepath.Join(p.Dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	live.goesOn(t)
	v.comesIn(t)

	says(t, p.do(t, "snapshot", "restore", snapshot, "--data-dir", p.Dir), "Restored", "master.key")
	if _, stderr, code := program(t, pgmtlsPath, "serve", "--data-dir", p.Dir, "--listen", "127.0.0.1:0"); code != 1 || !strings.Contains(stderr, "master key") {
		t.Errorf("without the master key the daemon ends with %d: %s", code, stderr)
	}
	writeFile(t, filepath.Join(p.Dir, "master.key"), master)
	writeFile(t, filepath.Join(p.Dir, "admin.token"), token+"\n")
	p.start(t)
	relay.leadTo(t, p)

	w := p.web(t, token) // it is good again, as everything of then is
	eventually.OK(t, patience, func() error {
		if a := w.acknowledged(t); !a.InForce || a.Generation <= newest {
			return errNotYet(a)
		}
		return nil
	})
	a, b := readFile(t, filepath.Join(beside.PolicyDir, "policy.yaml")), readFile(t, filepath.Join(edge.PolicyDir, "policy.yaml"))
	if a != b || strings.Contains(a, "198.51.100.") || !strings.Contains(a, "127.0.0.0/8") {
		t.Errorf("the proxies have\n%s\nand\n%s\nwant the rules of the snapshot", a, b)
	}
	var trail struct{ Records []fields }
	w.gets(t, http.StatusOK, "GET /v1/audit?action=policy.overtaken", "", &trail)
	if len(trail.Records) == 0 {
		t.Error("the audit trail does not tell of it")
	}
	live.goesOn(t) // whoever is still let in notices nothing of all this
	live.leave(t)
	p.do(t, "ip-rules", "create", "shop", "--cidr", "198.51.100.9/32", "--wait")
	beside.checked(t)
	edge.checked(t)
}
