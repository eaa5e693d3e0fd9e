package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/sockopt"
	"pgmtls-proxy/internal/testkit/testpki"
)

// referred is a file of the directory as proxy.yaml's line refers to it.
func referred(dir, name, field string, line int) config.File {
	return config.File{Path: filepath.Join(dir, name), Field: "backend." + field, Position: config.Position{File: "proxy.yaml", Line: line}}
}

func TestTargetWithoutTLSReadsNoFile(t *testing.T) {
	tcp := sockopt.TCP{KeepAliveCount: 3}
	target, err := NewTarget(config.Backend{Network: "unix", Address: "/run/db", TLS: config.BackendTLSOff, ConnectTimeout: time.Second,
		CA: referred("/nowhere", "ca.pem", "ca", 1)}, tcp)
	if err != nil || target.TLS != nil || target.Network != "unix" || target.Address != "/run/db" || target.ConnectTimeout != time.Second || target.TCP != tcp {
		t.Errorf("target is %+v, %v", target, err)
	}
}

func TestTargetReadsItsCertificates(t *testing.T) {
	dir := t.TempDir()
	p := newPKI(t)
	if err := p.client.Write(filepath.Join(dir, "proxy")); err != nil {
		t.Fatal(err)
	}
	if err := testpki.WriteFile(filepath.Join(dir, "ca.pem"), p.space.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	b := config.Backend{Network: "tcp", Address: "db.example.com:5432", TLS: config.BackendTLSVerifyFull, ServerName: "db.example.com",
		CA: referred(dir, "ca.pem", "ca", 5), Cert: referred(dir, "proxy.crt", "cert", 6), Key: referred(dir, "proxy.key", "key", 7)}
	target, err := NewTarget(b, sockopt.TCP{})
	if err != nil {
		t.Fatal(err)
	}
	if c := target.TLS; c.InsecureSkipVerify || c.ServerName != "db.example.com" || c.RootCAs == nil || !c.RootCAs.Equal(p.space.Pool()) {
		t.Errorf("TLS to the server is %+v", c)
	}

	for name, row := range map[string]struct {
		spoil func()
		want  []string
	}{
		"files that are not there": {func() { b.CA.Path += "x"; b.Cert.Path += "x" },
			[]string{`proxy.yaml:5: backend.ca: "`, `ca.pemx" is refused: no such file`, `proxy.yaml:6: backend.cert: "`}},
		"a key that others may read": {func() { os.Chmod(b.Key.Path, 0o644) },
			[]string{`proxy.yaml:7: backend.key: "`, `proxy.key" is refused: `}},
		"a key in place of a CA": {func() { b.CA.Path = b.Key.Path },
			[]string{`proxy.yaml:5: backend.ca: "`, `proxy.key" is refused: there is a private key where certificates are expected`}},
	} {
		good := b
		row.spoil()
		target, err := NewTarget(b, sockopt.TCP{})
		if b = good; os.Chmod(b.Key.Path, 0o600) != nil {
			t.Fatal("chmod")
		}
		if target != nil || err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range row.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s:\ngot  %v\nwant %s", name, err, want)
			}
		}
	}
}
