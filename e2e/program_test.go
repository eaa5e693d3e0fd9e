package e2e

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

// configured makes a directory with proxy.yaml and a policy, for commands that serve nothing.
func configured(t *testing.T, o options) string {
	t.Helper()
	dir := t.TempDir()
	p := usualPolicy()
	if o.Policy != nil {
		o.Policy(&p)
	}
	writePolicyDir(t, filepath.Join(dir, "policy"), p)
	path := filepath.Join(dir, "proxy.yaml")
	if o.Backend == "" {
		o.Backend = "unix:/run/postgresql/.s.PGSQL.5432"
	}
	writeFile(t, path, configText(t, o))
	return path
}

func TestCheckSaysWhatItFound(t *testing.T) {
	t.Parallel()
	path := configured(t, options{Config: map[string]any{"proxy_protocol": []string{"10.0.7.0/28", "2001:db8::/64"}}, Policy: func(p *policy) {
		bothCertificates(p)
		p.IPRules = append(p.IPRules, ipRule{ID: "office", CIDR: "203.0.113.7/32", Description: "My Office IP", ExpiresAt: "2020-01-01T00:00:00Z"})
	}})
	stdout, stderr, code := program(t, "check", "--config", path)
	if code != 0 || stderr != "" {
		t.Fatalf("check ended with %d: %s", code, stderr)
	}
	want := []string{
		`listen +127\.0\.0\.1:0`,
		`PROXY header +required from 10\.0\.7\.0/28, 2001:db8::/64`,
		`backend +.*/run/postgresql/\.s\.PGSQL\.5432.*, tls off`,
		`admin +127\.0\.0\.1:0`,
		`policy +generation "1" in .*/policy`,
		`client certificate +required`,
		`client CA +"?CN=Space CA"?, valid until 20.* UTC \(\d days?\)`,
		`certificate +127\.0\.0\.1 ::1 ` + privateName + ` \(default\), chain of 1, issued by .*CN=Private Server CA.*, valid until .*`,
		`certificate +\*\.apps\.public\.test ` + publicName + `, chain of 2, issued by .*CN=Public Intermediate.*, valid until .*`,
		`IP rule +127\.0\.0\.0/8.*`,
		`IP rule +203\.0\.113\.7/32 +My Office IP, EXPIRED`,
		`ok`,
	}
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("check prints %d lines, want %d:\n%s", len(lines), len(want), stdout)
	}
	for i, pattern := range want {
		if !regexp.MustCompile("^" + pattern + " *$").MatchString(lines[i]) {
			t.Errorf("check prints\n%s\nwant\n%s", lines[i], pattern)
		}
	}
}

// All problems at once, each with its line and what to do, and exit code 2.
// forServers is a CA that may issue certificates for servers alone.
func forServers(t *testing.T) []byte {
	t.Helper()
	template := testpki.Authority("Servers")
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return testpki.MustNewCA(t, template).PEM()
}

func TestCheckRefusesWhatARunWould(t *testing.T) {
	t.Parallel()
	chmod := func(name string, mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := func(name string, text []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := testpki.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	sixtyOne := func(p *policy) {
		p.IPRules = nil
		for i := range 61 {
			p.IPRules = append(p.IPRules, ipRule{ID: fmt.Sprint("r", i), CIDR: fmt.Sprintf("192.0.2.%d/32", i)})
		}
	}
	for name, c := range map[string]struct {
		options options
		spoil   func(t *testing.T, policyDir string)
		want    []string
	}{
		"host bits and a duplicate": {options: options{Policy: func(p *policy) {
			p.IPRules = []ipRule{{ID: "a", CIDR: "10.0.0.1/8"}, {ID: "b", CIDR: "192.0.2.0/24"}, {ID: "c", CIDR: "192.0.2.0/24"}}
		}}, want: []string{`ip_rules[0].cidr: "10.0.0.1/8" has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1/32 for the one address`, "ip_rules[2].cidr:"}},
		"61 rules":               {options: options{Policy: sixtyOne}, want: []string{"ip_rules", "60"}},
		"key of another":         {spoil: put("private.key", pki.public.KeyPEM), want: []string{"policy.yaml:", "private.key"}},
		"key for all to read":    {spoil: chmod("private.key", 0o644), want: []string{"policy.yaml:", "private.key", "chmod 0600"}},
		"encrypted key":          {spoil: put("private.key", testpki.EncryptedPKCS8), want: []string{"private.key", "encrypted"}},
		"no certificate in file": {spoil: put("private.crt", []byte("nothing\n")), want: []string{"private.crt"}},
		"CA that is none":        {spoil: put("space-ca.pem", pki.private.CertPEM), want: []string{"space-ca.pem"}},
		"CA for servers only":    {spoil: put("space-ca.pem", forServers(t)), want: []string{`policy.yaml:`, `"space-ca.pem" is refused: certificate 1, "CN=Servers": it may not issue certificates for TLS clients: its extended key usage lacks clientAuth`}},
		"two files joined":       {spoil: put("private.crt", []byte(strings.ReplaceAll(string(pki.private.CertPEM)+string(pki.private.CertPEM), "-----\n-----", "----------"))), want: []string{"private.crt", "joined without a line break"}},
		"file missing":           {options: options{Policy: func(p *policy) { p.ClientCA = []string{"absent.pem"} }}, want: []string{"absent.pem"}},
		"path outside":           {options: options{Policy: func(p *policy) { p.ClientCA = []string{"../proxy.yaml"} }}, want: []string{"client_ca[0]"}},
		"unknown key in proxy.yaml": {options: options{Config: map[string]any{"lisen": []string{"127.0.0.1:1"}, "log": map[string]any{"level": "loud"}}},
			want: []string{"proxy.yaml:", "lisen", "did you mean listen?", "log.level"}},
		"PROXY protocol": {options: options{Config: map[string]any{"proxy_protocol": []string{"::/0"}}}, want: []string{"proxy_protocol"}},
		"public admin":   {options: options{Config: map[string]any{"admin": "0.0.0.0:9815"}}, want: []string{"admin", "admin_public"}},
		"TLS on a socket": {options: options{Config: map[string]any{"backend": map[string]any{"address": "unix:/s", "tls": "verify-full"}}},
			want: []string{"backend.tls"}},
		"backend's CA missing": {options: options{Config: map[string]any{"backend": map[string]any{"address": "localhost:1", "tls": "verify-full", "ca": "absent.pem"}}},
			want: []string{"backend.ca", "absent.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := configured(t, c.options)
			if c.spoil != nil {
				c.spoil(t, filepath.Join(filepath.Dir(path), "policy"))
			}
			stdout, stderr, code := program(t, "check", "--config", path)
			if code != 2 || stdout != "" {
				t.Errorf("check ended with %d and printed %s", code, stdout)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("check prints\n%s\nwant %q in it", stderr, want)
				}
			}
			for _, secret := range []string{"PRIVATE KEY", "goroutine "} {
				if strings.Contains(stderr, secret) {
					t.Errorf("check prints %q:\n%s", secret, stderr)
				}
			}
		})
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	good := configured(t, options{})
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string // parts
	}{
		{[]string{"version"}, 0, "pgmtls-proxy ", ""},
		{[]string{"version"}, 0, "\nbuilt with go1.", ""},
		{[]string{"--version"}, 0, "pgmtls-proxy ", ""},
		{[]string{"--help"}, 0, "pgmtls-proxy check --config proxy.yaml", ""},
		{[]string{"--help"}, 0, "Exit codes:", ""},
		{[]string{"help"}, 0, "policy.yaml", ""},
		{[]string{"check", "--help"}, 0, "binds and dials nothing", ""},
		{[]string{"health", "--help"}, 0, "--ready", ""},
		{nil, 2, "", "--config proxy.yaml"},
		{[]string{"check"}, 2, "", "--config proxy.yaml"},
		{[]string{"--confg", good}, 2, "", "unknown flag: --confg"},
		{[]string{"chek", "--config", good}, 2, "", `unknown command "chek"`},
		{[]string{"check", "--config", good, "more"}, 2, "", "more"},
		{[]string{"version", "more"}, 2, "", "more"},
		{[]string{"--config", "/nonexistent/proxy.yaml"}, 2, "", "/nonexistent/proxy.yaml"},
		{[]string{"check", "--config", filepath.Dir(good)}, 2, "", filepath.Dir(good)},
	} {
		stdout, stderr, code := program(t, c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%q ended with %d and printed %s%s, want %d with %q, %q", c.args, code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
		if c.code == 0 && stderr != "" || c.code != 0 && stdout != "" {
			t.Errorf("%q printed %q to standard output and %q to standard error", c.args, stdout, stderr)
		}
	}
}

func TestHealthAsksTheRunningProxy(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(shortDir(t), "admin")
	p := launch(t, options{Backend: record(t).Address, PolicyText: "{}\n", Config: map[string]any{"admin": "unix:" + socket}})
	health := func(want int, args ...string) {
		t.Helper()
		stdout, stderr, code := program(t, append([]string{"health", "--config", p.configFile()}, args...)...)
		if code != want {
			t.Errorf("health %v ended with %d, want %d: %s%s", args, code, want, stdout, stderr)
		}
	}
	health(0)
	health(1, "--ready")
	writeFile(t, p.policyFile("policy.yaml"), p.policy.text(t))
	p.waitGeneration(t, "1")
	health(0, "--ready")
	p.stop(t)
	health(1)
	health(1, "--ready")
}

// A second proxy on the same port says which, and ends with 1; check binds nothing and finds nothing wrong.
func TestBusyPortIsNamed(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address})
	path := configured(t, options{Config: map[string]any{"listen": []string{p.Addr}}})
	if stdout, stderr, code := program(t, "--config", path); code != 1 || !strings.Contains(stderr, p.Addr) || stdout != "" {
		t.Errorf("the second proxy ended with %d: %s%s", code, stdout, stderr)
	}
	if _, stderr, code := program(t, "check", "--config", path); code != 0 {
		t.Errorf("check ended with %d: %s", code, stderr)
	}
	path = configured(t, options{Config: map[string]any{"admin": p.Admin}})
	if _, stderr, code := program(t, "--config", path); code != 1 || !strings.Contains(stderr, p.Admin) {
		t.Errorf("a proxy with a busy admin address ended with %d: %s", code, stderr)
	}
}

// Settings of the Go runtime that would weaken TLS end the start.
func TestWeakRuntimeSettingsEndTheStart(t *testing.T) {
	path := configured(t, options{})
	for _, setting := range []string{"tls10server=1", "tlsrsakex=1", "tls3des=1", "x509sha1=1", "http2client=0,tlssha1=1"} {
		t.Setenv("GODEBUG", setting)
		if _, stderr, code := program(t, "check", "--config", path); code != 2 || !strings.Contains(stderr, "GODEBUG") {
			t.Errorf("GODEBUG=%s: check ended with %d: %s", setting, code, stderr)
		}
	}
}
