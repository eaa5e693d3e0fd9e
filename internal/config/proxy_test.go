package config

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProxyProblemsNameLineFieldValueAndFix(t *testing.T) {
	const head = "listen: [\"0.0.0.0:5432\"]\n"
	const base = head + "backend: {address: \"unix:/run/postgresql/.s.PGSQL.5432\"}\n"
	backend := func(rest string) string { return head + "backend: {address: \"db:5432\", " + rest + "}\n" }
	for name, c := range map[string]struct{ text, want string }{
		"nothing": {"log: {}\n",
			"proxy.yaml:1: listen: is missing; add it: the addresses, with port, that clients connect to\n" +
				"proxy.yaml:1: backend: is missing; add it: the PostgreSQL server behind the proxy"},
		"listen on nothing": {"listen: []\nbackend: {address: \"db:5432\"}\n",
			"proxy.yaml:1: listen: is empty; write at least one item"},
		"listen on names and fragments": {"listen: [\"localhost:5432\", \"db:5432\", \":5432\", \"*:5432\", 5432, 1.2.3.4, \"::1\", \"1.2.3.4:99999\", \"[::ffff:1.2.3.4]:5432\", \"unix:/run/x\", \"\"]\nbackend: {address: \"db:5432\"}\n",
			"proxy.yaml:1: listen[0]: \"localhost:5432\" is a name, not an address; write 127.0.0.1:5432\n" +
				"proxy.yaml:1: listen[1]: \"db:5432\" is a name, not an address; write an address of this machine, or 0.0.0.0:5432 for every IPv4 address\n" +
				"proxy.yaml:1: listen[2]: \":5432\" has no address; write 0.0.0.0:5432 for every IPv4 address, [::]:5432 for every IPv6 address\n" +
				"proxy.yaml:1: listen[3]: \"*:5432\" has no address; write 0.0.0.0:5432 for every IPv4 address, [::]:5432 for every IPv6 address\n" +
				"proxy.yaml:1: listen[4]: \"5432\" is only a port; write 0.0.0.0:5432 for every IPv4 address\n" +
				"proxy.yaml:1: listen[5]: \"1.2.3.4\" has no port; write 1.2.3.4:5432\n" +
				"proxy.yaml:1: listen[6]: \"::1\" is an IPv6 address without brackets; write it as in [::1]:5432\n" +
				"proxy.yaml:1: listen[7]: \"1.2.3.4:99999\" is not an address with a port; write it as in 127.0.0.1:5432 or [::1]:5432\n" +
				"proxy.yaml:1: listen[8]: \"[::ffff:1.2.3.4]:5432\" is an IPv4-mapped address; write 1.2.3.4:5432\n" +
				"proxy.yaml:1: listen[9]: \"unix:/run/x\" is a unix socket; clients come over TCP: write an address with a port, as in 0.0.0.0:5432\n" +
				"proxy.yaml:1: listen[10]: is empty; write an address with a port: 127.0.0.1:5432"},
		"listen twice": {"listen: [\"[::1]:5432\", \"[0::1]:5432\"]\nbackend: {address: \"db:5432\"}\n",
			"proxy.yaml:1: listen: has [::1]:5432 twice; keep one"},
		"admin on a client port": {"listen: [\"127.0.0.1:5432\"]\nadmin: 127.0.0.1:5432\nbackend: {address: \"db:5432\"}\n",
			"proxy.yaml:2: admin: is an address of listen too; write another port"},
		"public admin": {base + "admin: \"0.0.0.0:9815\"\n",
			`proxy.yaml:3: admin: "0.0.0.0:9815" can be reached from other machines; write 127.0.0.1 for the address, or set admin_public: true if a firewall guards it`},
		"admin on a name": {base + "admin: localhost:9815\n",
			`proxy.yaml:3: admin: "localhost:9815" is a name, not an address; write 127.0.0.1:9815`},
		"admin on a relative socket": {base + "admin: unix:admin.sock\n",
			`proxy.yaml:3: admin: "unix:admin.sock" is not an absolute path; write unix: and the socket's path from the root, as in unix:/run/postgresql/.s.PGSQL.5432`},
		"socket path too long": {base + "admin: unix:/" + strings.Repeat("a", 107) + "\n",
			`proxy.yaml:3: admin: "unix:/` + strings.Repeat("a", 74) + `…" is a path of 108 bytes; a unix socket's path has at most 107`},
		"backend without a port":    {head + "backend: {address: db}\n", `proxy.yaml:2: backend.address: "db" has no port; write db:5432`},
		"backend IPv6 alone":        {head + "backend: {address: \"::1\"}\n", `proxy.yaml:2: backend.address: "::1" has no port; write [::1]:5432`},
		"backend port 0":            {head + "backend: {address: \"db:0\"}\n", `proxy.yaml:2: backend.address: "db:0" has a port that does not exist; write a number from 1 to 65535`},
		"backend path":              {head + "backend: {address: /run/postgresql/.s.PGSQL.5432}\n", `proxy.yaml:2: backend.address: "/run/postgresql/.s.PGSQL.5432" is a path; write unix:/run/postgresql/.s.PGSQL.5432 for a unix socket`},
		"backend that can't be":     {head + "backend: {address: \"300.1.1.1:5432\"}\n", `proxy.yaml:2: backend.address: "300.1.1.1:5432" is not an address; write it as in unix:/run/postgresql/.s.PGSQL.5432, db.internal:5432 or [2001:db8::1]:5432`},
		"URL with a password":       {head + "backend: {address: \"postgres://u:secret@db/x\"}\n", `proxy.yaml:2: backend.address: is a connection string; write host:port only, or unix: and a path`},
		"YAML 1.1's off":            {backend("tls: false"), `proxy.yaml:2: backend.tls: "false" is not a choice; write off, require, verify-ca or verify-full`},
		"verify without CA":         {backend("tls: verify-full"), `proxy.yaml:2: backend.tls: is verify-full and there is no ca to verify with; add ca: and the PEM file of the CA that issued PostgreSQL's certificate`},
		"CA that verifies nothing":  {backend("tls: require, ca: ca.pem"), `proxy.yaml:2: backend.ca: has no effect with tls: require, which verifies nothing; write tls: verify-full, or remove the key`},
		"CA without TLS":            {backend("ca: ca.pem"), `proxy.yaml:2: backend.ca: has no effect with tls: off; write tls: verify-full, or remove the key`},
		"certificate without key":   {backend("tls: require, cert: c.pem"), `proxy.yaml:2: backend.cert: is set without key; add key: and the PEM file of its private key`},
		"key without certificate":   {backend("tls: require, key: c.key"), `proxy.yaml:2: backend.key: is set without cert; add cert: and the PEM file of its certificate`},
		"TLS on a unix socket":      {head + "backend: {address: \"unix:/run/x\", tls: require}\n", `proxy.yaml:2: backend.tls: is require on a unix socket, where PostgreSQL speaks no TLS; write tls: off`},
		"server name":               {backend("tls: require, server_name: \"*.x\""), `proxy.yaml:2: backend.server_name: "*.x" is not a name; write the DNS name or the IP address in PostgreSQL's certificate`},
		"duration without unit":     {backend("connect_timeout: 5"), `proxy.yaml:2: backend.connect_timeout: "5" has no unit; write 5s for seconds, or 5ms for milliseconds`},
		"duration of nonsense":      {backend("connect_timeout: soon"), `proxy.yaml:2: backend.connect_timeout: "soon" is not a duration; write a number with a unit: 500ms, 10s, 2m, 1h`},
		"duration out of bounds":    {backend("connect_timeout: 2m"), `proxy.yaml:2: backend.connect_timeout: "2m" is out of bounds; write a duration from 100ms to 1m`},
		"fraction of a second":      {base + "tcp_keepalives_idle: 1500ms\n", `proxy.yaml:3: tcp_keepalives_idle: "1500ms" is not a whole number of seconds; the kernel counts in seconds: write 2s`},
		"octal":                     {base + "limits: {sessions: 010}\n", `proxy.yaml:3: limits.sessions: "010" is not a decimal number; write digits, from 1 to 1000000`},
		"no session at all":         {base + "limits: {sessions: 0}\n", `proxy.yaml:3: limits.sessions: "0" is out of bounds; write a number from 1 to 1000000`},
		"a number larger than any":  {base + "limits: {handshakes: 99999999999999999999}\n", `proxy.yaml:3: limits.handshakes: "99999999999999999999" is out of bounds; write a number from 0 to 100000`},
		"balancers everywhere":      {base + "proxy_protocol: [0.0.0.0/0]\n", `proxy.yaml:3: proxy_protocol[0]: "0.0.0.0/0" is every address: whoever connects could claim any client's; write the balancers' own networks`},
		"balancer with host bits":   {base + "proxy_protocol: [10.0.0.1/8]\n", `proxy.yaml:3: proxy_protocol[0]: "10.0.0.1/8" has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1/32 for the one address`},
		"log level":                 {base + "log: {level: trace}\n", `proxy.yaml:3: log.level: "trace" is not a choice; write debug, info, warn or error`},
		"old TLS":                   {base + "ssl_min_protocol_version: TLSv1\n", `proxy.yaml:3: ssl_min_protocol_version: "TLSv1" is not a choice; write TLSv1.2 or TLSv1.3`},
		"a group that is one value": {base + "log: debug\n", `proxy.yaml:3: log: is one value, not a group of keys; see docs/configuration.md for the form`},
		"mistyped key in a group":   {base + "limits:\n  startup-timout: 5s\n", `proxy.yaml:4: limits.startup-timout: is not a key that exists; did you mean startup_timeout?`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ParseProxy("proxy.yaml", []byte(c.text))
			if p != nil {
				t.Fatal("a refused text gave a configuration")
			}
			if got := problems(t, err); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestProxyIsWhatTheTextSays(t *testing.T) {
	p, err := ParseProxy("/etc/pgmtls/proxy.yaml", []byte(`
listen: ["0.0.0.0:5432", "[::]:5432"]
backend:
  address: "db.internal:5432"
  tls: verify-full
  ca: db-ca.pem
  cert: /secure/proxy.crt
  key: /secure/proxy.key
  connect_timeout: 1s
  first_byte_timeout: 2s
policy_dir: rules
name: orders
admin: "10.0.0.1:9815"
admin_public: true
proxy_protocol: [10.0.0.0/8, "2001:db8::/64"]
limits: {sessions: 20, sessions_per_address: 2, handshakes: 4, handshakes_per_second: 100, unfinished_per_address: 50, startup_timeout: 500ms, session_lifetime: 1h, idle_timeout: 10m}
drain: {grace: 1h, ready_delay: 5s}
log: {level: debug, format: console}
cancel_requests: any
ssl_min_protocol_version: TLSv1.3
tcp_keepalives_idle: 30s
tcp_keepalives_interval: 5s
tcp_keepalives_count: 3
tcp_user_timeout: 0s
`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(line, column int) Position { return Position{"/etc/pgmtls/proxy.yaml", line, column} }
	want := Backend{
		Network: "tcp", Address: "db.internal:5432", TLS: BackendTLSVerifyFull,
		CA:         File{"/etc/pgmtls/db-ca.pem", "backend.ca", at(6, 7)},
		Cert:       File{"/secure/proxy.crt", "backend.cert", at(7, 9)},
		Key:        File{"/secure/proxy.key", "backend.key", at(8, 8)},
		ServerName: "db.internal", ConnectTimeout: time.Second, FirstByteTimeout: 2 * time.Second,
	}
	switch {
	case p.Backend != want:
		t.Errorf("backend:\n got %+v\nwant %+v", p.Backend, want)
	case len(p.Listen) != 2 || p.Listen[1] != netip.MustParseAddrPort("[::]:5432"):
		t.Errorf("listen: %v", p.Listen)
	case p.PolicyDir != "/etc/pgmtls/rules":
		t.Errorf("policy_dir: %q", p.PolicyDir)
	case p.Name != "orders":
		t.Errorf("name: %q", p.Name)
	case p.Admin != Address{"tcp", "10.0.0.1:9815"}:
		t.Errorf("admin: %+v", p.Admin)
	case p.Limits != Limits{20, 2, 4, 100, 50, 500 * time.Millisecond, time.Hour, 10 * time.Minute}:
		t.Errorf("limits: %+v", p.Limits)
	case p.Drain != Drain{time.Hour, 5 * time.Second}:
		t.Errorf("drain: %+v", p.Drain)
	case p.Log != Log{LogDebug, LogConsole}:
		t.Errorf("log: %+v", p.Log)
	case p.CancelRequests != CancelAny || p.SSLMinProtocolVersion != tls.VersionTLS13:
		t.Errorf("cancel_requests %q, ssl_min_protocol_version %x", p.CancelRequests, p.SSLMinProtocolVersion)
	case p.TCP != TCP{30 * time.Second, 5 * time.Second, 3, 0}:
		t.Errorf("tcp: %+v", p.TCP)
	}
}

func TestServerNameDefaultsToTheHost(t *testing.T) {
	for address, want := range map[string]string{"db:5432": "db", "[::1]:5432": "::1", "127.0.0.1:5432": "127.0.0.1"} {
		p, err := ParseProxy("p", []byte(`{"listen":["[::]:0"],"backend":{"address":"`+address+`","tls":"verify-full","ca":"x"}}`+"\n"))
		if err != nil || p.Backend.ServerName != want {
			t.Errorf("%s: %v, %v", address, p, err)
		}
	}
}

func TestLoadProxySaysWhatToDoAboutAFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	_, err := LoadProxy(filepath.Join(dir, "proxy.yaml"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "write the file, or name another one with --config") {
		t.Errorf("missing: %v", err)
	}
	if _, err = LoadProxy(dir); err == nil || !strings.HasSuffix(err.Error(), "is a directory; name a proxy.yaml with --config") {
		t.Errorf("directory: %v", err)
	}
	path := filepath.Join(dir, "proxy.yaml")
	if err := os.WriteFile(path, []byte("listen: [\"127.0.0.1:0\"]\nbackend: {address: \"db:1\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := LoadProxy(path); err != nil || p.PolicyDir != filepath.Join(dir, "policy") {
		t.Errorf("good: %+v, %v", p, err)
	}
}

func TestLogIsForPeopleOnATerminal(t *testing.T) {
	for _, row := range []struct {
		written  LogFormat
		terminal bool
		want     LogFormat
	}{{"", true, LogConsole}, {"", false, LogJSON}, {LogJSON, true, LogJSON}, {LogConsole, false, LogConsole}} {
		if got := (Log{Format: row.written}).FormatFor(row.terminal); got != row.want {
			t.Errorf("%q, terminal %t: %q, want %q", row.written, row.terminal, got, row.want)
		}
	}
}
