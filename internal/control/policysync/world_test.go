package policysync

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/syncbuf"
)

const database = policytest.Database

type edition = policytest.Edition

// patience is how long a test waits for what should happen at once. Nothing waits it out when all is well.
const patience = time.Minute

// soon is a context that ends when a test has been too patient.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// program builds the proxy once for all tests.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programDir, "pgmtls-proxy")
	if output, err := exec.Command("go", "build", "-o", path, "../../../cmd/pgmtls-proxy").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the proxy: %w\n%s", err, output)
	}
	return path, nil
})

// programDir is where it is; TestMain makes and removes it.
var programDir string

func TestMain(m *testing.M) {
	if os.Getenv(publisherDir) != "" {
		publishForEver()
		return
	}
	dir, err := os.MkdirTemp("", "delivery.")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programDir = dir
	defer os.RemoveAll(dir)
	m.Run()
}

// proxy is a running pgmtls-proxy.
type proxy struct {
	Dir     string // policy_dir
	Listen  string
	Admin   config.Address
	command *exec.Cmd
	log     *syncbuf.Buffer
	ended   chan struct{}
}

// startProxy runs a proxy on a policy directory until the end of the test.
func startProxy(t testing.TB, dir string, changes map[string]any) *proxy {
	t.Helper()
	return startProxyAs(t, dir, changes, nil)
}

// openTemp is a directory of the test that every user can enter.
func openTemp(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must.OK(t, os.Chmod(filepath.Dir(dir), 0o755))
	must.OK(t, os.Chmod(dir, 0o755))
	return dir
}

// startProxyAs is [startProxy] for another user; nil is this one.
func startProxyAs(t testing.TB, dir string, changes map[string]any, user *syscall.Credential) *proxy {
	t.Helper()
	path, err := program()
	must.OK(t, err)
	home := openTemp(t)
	content := map[string]any{
		"listen": []string{"127.0.0.1:0"}, "admin": "127.0.0.1:0", "policy_dir": dir,
		"backend": map[string]any{"address": "127.0.0.1:1"}, // nobody is there
		"drain":   map[string]any{"grace": "0s"},
	}
	for key, value := range changes {
		content[key] = value
	}
	text, err := json.Marshal(content)
	must.OK(t, err)
	must.OK(t, os.WriteFile(filepath.Join(home, "proxy.yaml"), append(text, '\n'), 0o644))
	p := &proxy{Dir: dir, log: &syncbuf.Buffer{}, ended: make(chan struct{})}
	p.command = exec.Command(path, "--config", filepath.Join(home, "proxy.yaml"))
	p.command.Stderr = p.log
	p.command.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	must.OK(t, p.command.Start())
	go func() {
		p.command.Wait() // it is ended by a signal
		close(p.ended)
	}()
	t.Cleanup(p.stop)
	eventually.OK(t, patience, func() error {
		select {
		case <-p.ended:
			t.Fatalf("the proxy has ended: %s", p.log)
		default:
		}
		return p.learnAddresses()
	})
	return p
}

func (p *proxy) learnAddresses() error {
	lines := bufio.NewScanner(bytes.NewReader([]byte(p.log.String())))
	for lines.Scan() {
		var event struct {
			Message, Admin string
			Listen         []string
		}
		if json.Unmarshal(lines.Bytes(), &event) == nil && event.Message == "serving" {
			p.Listen, p.Admin = event.Listen[0], config.Address{Network: "tcp", Address: event.Admin}
			if filepath.IsAbs(event.Admin) {
				p.Admin.Network = "unix"
			}
			return nil
		}
	}
	return fmt.Errorf("the proxy does not serve: %s", p.log)
}

func (p *proxy) stop() {
	_ = p.command.Process.Signal(syscall.SIGKILL) // it may have ended
	<-p.ended
}

func (p *proxy) courier() *Publisher {
	return &Publisher{Database: database, Dir: p.Dir, Admin: p.Admin}
}

// deliver publishes a policy and waits until it is in force.
func deliver(t testing.TB, c *Publisher, p api.Policy) (reports []api.Report) {
	t.Helper()
	_, err := c.Publish(t.Context(), p)
	must.OK(t, err)
	must.OK(t, await(soon(t), c, p.Generation, func(r api.Report) { reports = append(reports, r) }))
	return reports
}

// await asks the proxy until a generation is in force. It reports once that it is applied, that it is in force, and each
// refusal of what was published last.
func await(ctx context.Context, c *Publisher, generation int64, report func(api.Report)) error {
	var told api.Report
	for {
		s, err := c.queryStatus(ctx)
		if err == nil {
			r := c.understand(s)
			news := r.Applied >= generation && (r.Applied != told.Applied || r.InForce != told.InForce)
			if news || r.Error != "" && r.Error != told.Error && c.isNews(s) {
				told = r
				report(r)
			}
			if r.Applied >= generation && r.InForce >= generation {
				return nil
			}
		}
		if waited := retry.Sleep(ctx, shortPause); waited != nil {
			return fmt.Errorf("generation %d is not in force: %w; at last %+v, %v", generation, waited, told, err)
		}
	}
}

// readWhole reads a directory as a reader without locks would: it takes what it found when policy.yaml is still the same
// file behind it.
func readWhole(dir string) (generation int64, err error) {
	for range 1000 {
		first, err := os.ReadFile(filepath.Join(dir, api.PolicyFile))
		if err != nil {
			return 0, err
		}
		d, err := openDirectory(dir)
		if err != nil {
			return 0, err
		}
		p, wrong := d.policy(database)
		d.close()
		again, err := os.ReadFile(filepath.Join(dir, api.PolicyFile))
		if err != nil {
			return 0, err
		}
		if bytes.Equal(first, again) {
			return p.Generation, wrong
		}
	}
	return 0, errors.New("policy.yaml keeps changing")
}

// names lists a directory.
func names(t testing.TB, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must.OK(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
