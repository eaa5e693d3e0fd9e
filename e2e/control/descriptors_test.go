package control

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
)

// Connections of anybody must not use up the descriptors that the store and the policies need: the store ends the daemon when
// it can't open its next file.
func TestConnectionsOfAnybodyLeaveTheDaemonItsDescriptors(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := &plane{Dir: dir, client: filepath.Join(dir, "client.yaml")}
	p.process = launch(t, "the daemon", "/bin/sh", "-c", `ulimit -n 128; exec "$@"`, "sh", pgmtlsPath, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	p.waitFor(t, "serving")
	f := newFront(t, p.policyDir(t, "shop"))
	p.do(t, "databases", "create", "shop", "--host", "localhost", "--proxy", "local", "--policy-dir", f.PolicyDir, "--admin", f.Admin)
	p.do(t, "mtls", "create", "shop", "--wait")

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var attack sync.WaitGroup
	defer attack.Wait()
	defer cancel()
	where, err := url.Parse(p.url(t))
	must.OK(t, err)
	var there sync.WaitGroup
	for i := range 300 { // from two addresses, which may have half of the room
		there.Add(1)
		attack.Go(func() {
			apiStop{http1: true, headers: 100, whole: true}.stay(ctx, where.Host, fmt.Sprintf("127.0.0.%d", 2+i%2), nil, there.Done)
		})
	}
	there.Wait()

	eventually.OK(t, patience, func() error { // there is room as soon as the daemon has read what they sent
		if result := p.run(t, "databases"); result.code != 0 {
			return errors.New(result.stderr)
		}
		return nil
	})
	var certificates []struct{ ID string }
	p.read(t, &certificates, "certificates", "shop")
	p.do(t, "certificates", "delete", "shop", "--id", certificates[0].ID, "--wait")
}
