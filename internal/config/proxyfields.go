package config

import (
	"crypto/tls"
	"net/netip"
	"time"
)

// proxyFields are the keys of proxy.yaml.
var proxyFields = []field[Proxy]{
	listField(Key{Name: "listen", Type: "list of addresses", Required: true, Bounds: "1 to 64 items, no two alike",
		Meaning: "The addresses, with port, that clients connect to. 0.0.0.0 is every IPv4 address, [::] every IPv6 address. Port 0 selects any free port; the log says which. Not used if systemd passes sockets."},
		listRule{1, 64}, value.asListen, func(p *Proxy) *[]netip.AddrPort { return &p.Listen }),
	required(groupField(Key{Name: "backend",
		Meaning: "The PostgreSQL server behind the proxy."},
		backendFields, func(p *Proxy) *Backend { return &p.Backend })),
	textField(Key{Name: "policy_dir", Default: "policy",
		Meaning: "The directory with policy.yaml and the PEM files that it names. A relative path is relative to this file."},
		textRule{1, 1024, true}, func(p *Proxy) *string { return &p.PolicyDir }),
	textField(Key{Name: "name",
		Meaning: "The name of the database in metrics (label database of pgmtls_policy_info) and in /status, for a proxy without a control plane. A policy that the control plane wrote has the name itself, and that one counts."},
		textRule{1, maxName, true}, func(p *Proxy) *string { return &p.Name }),
	{Key{Name: "admin", Type: "address", Default: "127.0.0.1:9815", Bounds: "a loopback address with port, or unix: and an absolute path",
		Meaning: "The address of probes, metrics and status, over plain HTTP."},
		func(v value, p *Proxy) { p.Admin = v.asAdmin() }},
	boolField(Key{Name: "admin_public", Default: "false",
		Meaning: "Allows admin to be an address that other machines can reach. Anybody who can reach it sees which clients are connected; put a firewall in front."},
		func(p *Proxy) *bool { return &p.AdminPublic }),
	listField(Key{Name: "proxy_protocol", Type: "list of networks", Default: emptyList, Bounds: "at most 100 items, not 0.0.0.0/0 and ::/0",
		Meaning: "Networks of load balancers. Their connections must start with a PROXY protocol header (version 1 or 2), whose address is the client's. A header from anywhere else is refused."},
		listRule{0, 100}, value.asProxyNetwork, func(p *Proxy) *[]netip.Prefix { return &p.ProxyProtocol }),
	groupField(Key{Name: "limits",
		Meaning: "Limits on clients."},
		limitFields, func(p *Proxy) *Limits { return &p.Limits }),
	groupField(Key{Name: "drain",
		Meaning: "How the process ends after SIGTERM or SIGINT."},
		drainFields, func(p *Proxy) *Drain { return &p.Drain }),
	groupField(Key{Name: "log",
		Meaning: "The log on standard error."},
		logFields, func(p *Proxy) *Log { return &p.Log }),
	choiceField(Key{Name: "cancel_requests", Default: "own",
		Meaning: "Which cancel requests are forwarded. own: those with the key of a live session of this process, from that session's address or, in TLS, with its client certificate. any: all from allowed addresses; for several proxies behind one load balancer, where a cancel request may reach another proxy than its session's."},
		[]CancelRequests{CancelOwn, CancelAny}, func(p *Proxy) *CancelRequests { return &p.CancelRequests }),
	versionField(Key{Name: "ssl_min_protocol_version", Default: "TLSv1.2",
		Meaning: "The oldest TLS version that clients may use."},
		func(p *Proxy) *uint16 { return &p.SSLMinProtocolVersion }),
	durationField(Key{Name: "tcp_keepalives_idle", Default: "60s",
		Meaning: "How long a connection is silent before the kernel probes the other side. This key and the next three apply to clients and to PostgreSQL, like PostgreSQL's settings of the same names."},
		kernelSeconds, func(p *Proxy) *time.Duration { return &p.TCP.KeepalivesIdle }),
	durationField(Key{Name: "tcp_keepalives_interval", Default: "10s",
		Meaning: "How long the kernel waits between two probes."},
		kernelSeconds, func(p *Proxy) *time.Duration { return &p.TCP.KeepalivesInterval }),
	integerField(Key{Name: "tcp_keepalives_count", Default: "6",
		Meaning: "How many probes may remain unanswered before the connection is lost."},
		1, 127, func(p *Proxy) *int { return &p.TCP.KeepalivesCount }),
	durationField(Key{Name: "tcp_user_timeout", Default: "5m",
		Meaning: "How long sent data may remain unacknowledged before the connection is lost. On Linux it also ends a client that reads nothing for this long while data waits for it, and replaces `tcp_keepalives_count`. 0s leaves both to the system."},
		durationBounds{max: 24 * time.Hour}, func(p *Proxy) *time.Duration { return &p.TCP.UserTimeout }),
}

// kernelSeconds are the bounds of TCP_KEEPIDLE and TCP_KEEPINTVL: MAX_TCP_KEEPIDLE of Linux's include/net/tcp.h.
var kernelSeconds = durationBounds{min: time.Second, max: 32767 * time.Second, whole: true}

var backendFields = []field[Backend]{
	{Key{Name: "address", Type: "address", Required: true,
		Bounds:  "host:port, or unix: and an absolute path",
		Meaning: "Where PostgreSQL listens: \"unix:/run/postgresql/.s.PGSQL.5432\" or \"db.internal:5432\"."},
		func(v value, b *Backend) {
			at := v.asBackend()
			b.Network, b.Address = at.Network, at.Address
		}},
	choiceField(Key{Name: "tls", Default: "off",
		Meaning: "How the proxy's connection to PostgreSQL is protected. require encrypts without verifying the server, verify-ca also verifies the chain, verify-full also the name. Unless it is off, clients with SCRAM channel binding fail, except if both sides have the same certificate."},
		[]BackendTLS{BackendTLSOff, BackendTLSRequire, BackendTLSVerifyCA, BackendTLSVerifyFull}, func(b *Backend) *BackendTLS { return &b.TLS }),
	pemField(Key{Name: "ca", Absent: "only without verify-ca and verify-full",
		Meaning: "PEM file with the CA certificates that verify PostgreSQL's certificate."},
		func(b *Backend) *File { return &b.CA }),
	pemField(Key{Name: "cert",
		Meaning: "PEM file with the proxy's client certificate for PostgreSQL. Requires key."},
		func(b *Backend) *File { return &b.Cert }),
	pemField(Key{Name: "key",
		Meaning: "PEM file with that certificate's private key."},
		func(b *Backend) *File { return &b.Key }),
	{Key{Name: "server_name", Type: "text", Absent: "the host in address", Bounds: "a DNS name or an IP address",
		Meaning: "The name that PostgreSQL's certificate must have."},
		func(v value, b *Backend) { b.ServerName = v.asServerName() }},
	durationField(Key{Name: "connect_timeout", Default: "5s",
		Meaning: "How long one attempt to reach PostgreSQL may take, its TLS handshake included."},
		durationBounds{min: 100 * time.Millisecond, max: time.Minute}, func(b *Backend) *time.Duration { return &b.ConnectTimeout }),
	durationField(Key{Name: "first_byte_timeout", Default: "60s",
		Meaning: "How long PostgreSQL may take from the startup packet to its first byte. A login that asks for a password or asks a directory has answered by then. A client whose server is silent for longer reads 57P03."},
		durationBounds{min: 100 * time.Millisecond, max: time.Hour}, func(b *Backend) *time.Duration { return &b.FirstByteTimeout }),
	boolField(Key{Name: "identity_settings", Default: "false",
		Meaning: "Starts each session with the settings pgmtls.client_addr, pgmtls.client_subject and pgmtls.client_serial, for audit triggers. Needs a server that accepts startup options, as PostgreSQL does. Information, not proof: a session can change them."},
		func(b *Backend) *bool { return &b.IdentitySettings }),
}

var limitFields = []field[Limits]{
	integerField(Key{Name: "sessions", Default: "9000",
		Meaning: "Live sessions at once. Each needs two file descriptors; the default fits a limit of 20,000 open files, and with less there are fewer sessions. Beside them, 1,024 connections may be unfinished: in the handshake, or being refused."},
		1, 1_000_000, func(l *Limits) *int { return &l.Sessions }),
	integerField(Key{Name: "sessions_per_address", Default: "0",
		Meaning: "Maximum number of sessions from one client address. 0 is no limit."},
		0, 1_000_000, func(l *Limits) *int { return &l.SessionsPerAddress }),
	integerField(Key{Name: "handshakes", Default: "0",
		Meaning: "Maximum number of TLS handshakes that compute at once; others wait. 0 selects two for each processor."},
		0, 100_000, func(l *Limits) *int { return &l.Handshakes }),
	integerField(Key{Name: "handshakes_per_second", Default: "0",
		Meaning: "Maximum number of TLS handshakes that begin in a second, without those of addresses that no rule allows: their rate is fixed. One network (/24, or /48 of IPv6) gets at most half of them. 0 is no limit."},
		0, 1_000_000, func(l *Limits) *int { return &l.HandshakesPerSecond }),
	integerField(Key{Name: "unfinished_per_address", Default: "128",
		Meaning: "Maximum number of connections from one client address (one /64 of IPv6) that are not yet sessions. Prevents one host's slow clients from using all slots. 0 is no limit."},
		0, 1_000_000, func(l *Limits) *int { return &l.UnfinishedPerAddress }),
	durationField(Key{Name: "startup_timeout", Default: "60s",
		Meaning: "How long a connection may take until its session begins: TLS, the startup packet and the dial of PostgreSQL together. An address that no rule allows has 10s at most, and so has everybody while 512 connections are slower than that. The database's own authentication_timeout bounds the login after that."},
		durationBounds{min: 100 * time.Millisecond, max: 10 * time.Minute}, func(l *Limits) *time.Duration { return &l.StartupTimeout }),
	durationField(Key{Name: "session_lifetime", Default: "0s",
		Meaning: "Maximum age of a session. It ends with 57P05 as soon as it is outside of a query and a transaction. 0s is no limit."},
		durationBounds{max: 10000 * time.Hour}, func(l *Limits) *time.Duration { return &l.SessionLifetime }),
	durationField(Key{Name: "idle_timeout", Default: "0s",
		Meaning: "How long a session may be idle outside of a transaction. It ends with 57P05, at most a tenth later. Inside of a transaction, PostgreSQL's idle_in_transaction_session_timeout applies. 0s is no limit."},
		durationBounds{max: 10000 * time.Hour}, func(l *Limits) *time.Duration { return &l.IdleTimeout }),
}

var drainFields = []field[Drain]{
	durationField(Key{Name: "grace", Default: "30s",
		Meaning: "How long transactions may continue."},
		durationBounds{max: 24 * time.Hour}, func(d *Drain) *time.Duration { return &d.Grace }),
	durationField(Key{Name: "ready_delay", Default: "0s",
		Meaning: "How long new connections are still accepted after /readyz reports that the proxy is not ready, so that load balancers notice."},
		durationBounds{max: 10 * time.Minute}, func(d *Drain) *time.Duration { return &d.ReadyDelay }),
}

var logFields = []field[Log]{
	choiceField(Key{Name: "level", Default: "info",
		Meaning: "The lowest level that is logged."},
		[]LogLevel{LogDebug, LogInfo, LogWarn, LogError}, func(l *Log) *LogLevel { return &l.Level }),
	choiceField(Key{Name: "format", Absent: "`console` if standard error is a terminal, else `json`",
		Meaning: "json for machines, console for people."},
		[]LogFormat{LogJSON, LogConsole}, func(l *Log) *LogFormat { return &l.Format }),
}

// required marks a field that has no default.
func required[T any](f field[T]) field[T] {
	f.Required = true
	return f
}

// versionField is a TLS version, in the words of PostgreSQL's setting of the same name.
func versionField[T any](k Key, to func(*T) *uint16) field[T] {
	words := []string{"TLSv1.2", "TLSv1.3"}
	choice := choiceField(k, words, func(s *string) *string { return s })
	return field[T]{choice.Key, func(v value, into *T) {
		var word string
		choice.set(v, &word)
		switch word {
		case words[0]:
			*to(into) = tls.VersionTLS12
		case words[1]:
			*to(into) = tls.VersionTLS13
		}
	}}
}

// pemField is a PEM file.
func pemField[T any](k Key, to func(*T) *File) field[T] {
	k.Type = "file"
	return field[T]{k, func(v value, into *T) {
		if f, ok := v.asFile(); ok {
			*to(into) = f
		}
	}}
}
