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
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// database is the one of the tests.
const database = "0a1b2c3d-0000-4000-8000-000000000001"

// patience is how long a test waits for what should happen at once. Nothing waits it out when all is well.
const patience = 20 * time.Second

// soon is a context that ends when a test has been too patient.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// space makes policies.
type space struct {
	ca     *testpki.CA
	server *testpki.Pair
}

func newSpace(t testing.TB) *space {
	ca := testpki.MustCA(t, "space")
	return &space{ca, ca.MustIssue(t, testpki.Server("db.example.com"))}
}

// edition is what differs between policies.
type edition struct {
	Generation int64
	CIDRs      []string // default: loopback
	Revoked    []string
	EndGrace   string
	Server     *testpki.Pair // default: the space's
	Text       string        // instead of all this, behind the header
}

// policy renders an edition.
func (s *space) policy(t testing.TB, e edition) api.Policy {
	t.Helper()
	server := s.server
	if e.Server != nil {
		server = e.Server
	}
	ca, crt, key := FileName("client-ca", "pem", s.ca.PEM()), FileName("server", "crt", server.CertPEM), FileName("server", "key", server.KeyPEM)
	content := struct {
		Generation   string              `json:"generation"`
		ClientCA     []string            `json:"client_ca"`
		Revoked      []string            `json:"revoked,omitempty"`
		Certificates []map[string]string `json:"certificates"`
		EndGrace     string              `json:"end_grace,omitempty"`
		Rules        []map[string]string `json:"ip_rules"`
	}{fmt.Sprint(e.Generation), []string{ca}, e.Revoked, []map[string]string{{"cert": crt, "key": key}}, e.EndGrace, []map[string]string{}}
	if e.CIDRs == nil {
		e.CIDRs = []string{"127.0.0.0/8"}
	}
	for i, cidr := range e.CIDRs {
		content.Rules = append(content.Rules, map[string]string{"id": fmt.Sprintf("rule-%d", i), "cidr": cidr})
	}
	text, err := json.Marshal(content)
	must.OK(t, err)
	if e.Text != "" {
		text = []byte(e.Text)
	}
	return api.Policy{Database: database, Generation: e.Generation, Files: map[string][]byte{
		api.PolicyFile: fmt.Appendf(nil, "%s%s\n...\n", Header(database, e.Generation), text),
		ca:             s.ca.PEM(), crt: server.CertPEM, key: server.KeyPEM,
	}}
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
	log     *logged
	ended   chan struct{}
}

// logged keeps what a process logs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
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
	p := &proxy{Dir: dir, log: &logged{}, ended: make(chan struct{})}
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
		s, err := c.askStatus(ctx)
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
