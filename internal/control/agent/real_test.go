package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/syncbuf"
)

// plane is a real control plane, in a process of its own.
type plane struct {
	*apiclient.Client
	dir, program, listen string
	process              *exec.Cmd
}

func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if output, err := exec.Command("go", "build", "-o", path, "../../../cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, output)
	}
	return path
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	p := &plane{dir: filepath.Join(t.TempDir(), "data"), program: build(t, "pgmtls"), listen: listener.Addr().String()}
	must.OK(t, listener.Close()) // it has to come back at the same address
	p.start(t)
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *plane) start(t *testing.T) {
	t.Helper()
	p.process = exec.Command(p.program, "serve", "--data-dir", p.dir, "--listen", p.listen)
	output := &syncbuf.Buffer{}
	p.process.Stderr = output
	must.OK(t, p.process.Start())
	eventually.OK(t, patience, func() error {
		token, err := os.ReadFile(filepath.Join(p.dir, "admin.token"))
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		ca, err := os.ReadFile(filepath.Join(p.dir, "control-ca.pem"))
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		p.Client, err = apiclient.New(apiclient.Options{URL: "https://" + p.listen, CA: ca, Token: strings.TrimSpace(string(token))})
		must.OK(t, err)
		if _, err = p.Databases(t.Context()); err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	})
}

func (p *plane) kill() {
	_ = p.process.Process.Signal(syscall.SIGKILL) // it may have ended
	_ = p.process.Wait()                          // killed
}

// startProxy runs a real proxy on a policy directory, and gives its admin address.
func startProxy(t *testing.T, dir string) config.Address {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"listen": []string{"127.0.0.1:0"}, "admin": "127.0.0.1:0", "policy_dir": dir,
		"backend": map[string]any{"address": "127.0.0.1:1"}, // nobody is there
	})
	must.OK(t, err)
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	must.OK(t, os.WriteFile(path, append(text, '\n'), 0o644))
	process, output := exec.Command(build(t, "pgmtls-proxy"), "--config", path), &syncbuf.Buffer{}
	process.Stderr = output
	must.OK(t, process.Start())
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGKILL)
		_ = process.Wait() // killed
	})
	var event struct{ Admin string }
	eventually.OK(t, patience, func() error {
		for lines := bufio.NewScanner(bytes.NewReader([]byte(output.String()))); lines.Scan(); {
			if json.Unmarshal(lines.Bytes(), &event) == nil && event.Admin != "" {
				return nil
			}
		}
		return fmt.Errorf("the proxy does not serve: %s", output)
	})
	return config.Address{Network: "tcp", Address: event.Admin}
}

// authorized makes a rule, and waits until it is in force.
func (p *plane) authorized(t *testing.T, cidr string) api.Rule {
	t.Helper()
	rule, err := p.CreateRule(t.Context(), "shop", api.NewRule{CIDR: cidr})
	must.OK(t, err)
	eventually.OK(t, patience, func() error {
		got, err := p.Rule(t.Context(), "shop", rule.ID)
		if err == nil && got.Status != api.Authorized {
			err = fmt.Errorf("the rule is %s", got.Status)
		}
		return err
	})
	return rule
}

func TestARealControlPlaneAndARealProxy(t *testing.T) {
	p := newPlane(t)
	ctx := t.Context()
	db, err := p.CreateDatabase(ctx, api.NewDatabase{Name: "shop", Space: "acme", Hosts: []string{"shop.example.com"}, Proxies: []api.NewProxy{{Name: "edge"}}})
	must.OK(t, err)
	enrolment, err := p.CreateEnrolment(ctx, api.NewEnrolment{Database: "shop", Proxy: "edge"})
	must.OK(t, err)
	dir := t.TempDir()
	s := &site{log: &syncbuf.Buffer{}, Options: Options{
		Database: "shop", Control: "https://" + p.listen, CAFile: filepath.Join(dir, "ca.pem"), Token: enrolment.Token,
		PolicyDir: filepath.Join(dir, "policy"), StateDir: filepath.Join(dir, "state"), ObserveEvery: 100 * time.Millisecond,
	}}
	must.OK(t, os.WriteFile(s.CAFile, []byte(enrolment.ControlCA), 0o644))
	must.OK(t, os.Mkdir(s.PolicyDir, 0o750))
	s.Admin = startProxy(t, s.PolicyDir)
	running, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(running, s.Options) }()
	t.Cleanup(end)

	_, err = p.CreateTLSEndpoint(ctx, "shop")
	must.OK(t, err)
	first := p.authorized(t, "127.0.0.0/8")
	began := time.Now()
	p.authorized(t, "198.51.100.0/24")
	t.Logf("authorized after %v", time.Since(began))

	dry, err := p.DryRunDeleteRule(ctx, "shop", first.ID)
	must.OK(t, err)
	if len(dry.Proxies) != 1 || dry.Proxies[0].Effect == nil || !dry.Proxies[0].Effect.OK {
		t.Errorf("the dry run says %+v", dry)
	}

	p.kill()
	must.OK(t, os.Remove(filepath.Join(s.PolicyDir, "policy.yaml"))) // put right although the control plane is away
	eventually.OK(t, patience, func() error {
		_, err := readWhole(s.PolicyDir)
		if err == nil {
			_, err = os.Stat(filepath.Join(s.PolicyDir, "policy.yaml"))
		}
		return err
	})
	p.start(t)
	p.authorized(t, "203.0.113.0/24")

	agents, err := p.Agents(ctx)
	must.OK(t, err)
	if len(agents) != 1 || agents[0].Database != db.ID {
		t.Fatalf("the agents are %+v", agents)
	}
	must.OK(t, p.RevokeAgent(ctx, agents[0].ID))
	select {
	case err := <-ended:
		if !errors.Is(err, ErrRefused) {
			t.Errorf("a revoked agent ended with %v", err)
		}
	case <-soon(t).Done():
		t.Error("a revoked agent goes on")
	}
	if _, err := readWhole(s.PolicyDir); err != nil {
		t.Errorf("behind the revoked agent: %v", err)
	}
}
