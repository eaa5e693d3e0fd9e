package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// front is a proxy in front of the tests' PostgreSQL; it may be killed and started again.
type front struct {
	*process
	PolicyDir string
	Admin     string // as proxies are registered with it: a unix socket, but for those of newFrontOnTCP
	Port      string // of 127.0.0.1 where clients connect; another one after each start

	database string // empty where no test asks
	config   string
	newest   int // the newest generation that it ever followed
}

// newFront starts a proxy. It serves nobody before somebody delivers a policy.
func newFront(t testing.TB, policyDir string) *front {
	t.Helper()
	dir := shortDir(t)
	return newFrontAt(t, &front{PolicyDir: policyDir, Admin: "unix:" + filepath.Join(dir, "admin"), config: filepath.Join(dir, "proxy.yaml")})
}

// newFrontOnTCP is newFront with an admin address that Prometheus can reach.
func newFrontOnTCP(t testing.TB, policyDir string) *front {
	t.Helper()
	f := newFrontAt(t, &front{PolicyDir: policyDir, Admin: "127.0.0.1:0", config: filepath.Join(t.TempDir(), "proxy.yaml")})
	f.Admin = f.waitFor(t, "serving").text("admin")
	return f
}

func newFrontAt(t testing.TB, f *front) *front {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"listen":     []string{"127.0.0.1:0"},
		"admin":      f.Admin,
		"backend":    map[string]any{"address": "unix:" + postgres.Server(t).SocketPath},
		"policy_dir": f.PolicyDir,
		"limits":     map[string]any{"sessions": 1000},
		"drain":      map[string]any{"grace": "5s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, f.config, string(text)+"\n")
	f.start(t)
	t.Cleanup(func() { f.ascends(t) })
	return f
}

// start starts the proxy, again or for the first time, and returns when it listens.
func (f *front) start(t testing.TB) {
	t.Helper()
	if f.process != nil {
		f.ascends(t)
	}
	f.process = launch(t, "the proxy of "+filepath.Base(f.PolicyDir), proxyPath, "--config", f.config)
	serving := f.waitFor(t, "serving")
	listen, _ := serving["listen"].([]any)
	if len(listen) == 0 {
		t.Fatal("the proxy's log has no listen address")
	}
	_, f.Port, _ = net.SplitHostPort(fmt.Sprint(listen[0]))
}

// ascends checks that the proxy never followed an older generation than before, also over its starts.
func (f *front) ascends(t testing.TB) {
	t.Helper()
	for _, e := range f.log.having("policy in force") {
		generation, err := strconv.Atoi(e.text("generation"))
		if err != nil || generation < f.newest {
			t.Errorf("%s followed generation %q behind %d", f.name, e.text("generation"), f.newest)
		}
		f.newest = max(f.newest, generation)
	}
}

// proxyStatus is as much of GET /status as tests look at.
type proxyStatus struct {
	Policy struct{ Generation, Digest string }
	Reload struct{ Error string }

	Sessions map[string]int // by state
}

// status asks the proxy's admin address.
func (f *front) status() (s proxyStatus, err error) {
	socket := f.Admin[len("unix:"):]
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}, DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: 5 * time.Second}
	answer, err := client.Get("http://localhost/status")
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	return s, json.NewDecoder(answer.Body).Decode(&s)
}

// left waits until the proxy has no session: psql is gone before the proxy has noticed.
func (f *front) left(t testing.TB) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		s, err := f.status()
		if err != nil {
			return err
		}
		for state, n := range s.Sessions {
			if n > 0 {
				return fmt.Errorf("%d sessions are in state %s", n, state)
			}
		}
		return nil
	})
}

// checked runs the proxy's own check over what is in its policy directory, which must be good.
func (f *front) checked(t testing.TB) {
	t.Helper()
	if stdout, stderr, code := program(t, proxyPath, "check", "--config", f.config); code != 0 {
		t.Errorf("the policy in %s is no good (exit code %d):\n%s%s", f.PolicyDir, code, stdout, stderr)
	}
}
