// Package config turns the files that people and the control plane write into one validated value each: proxy.yaml
// into a [Proxy] (what this process is), policy.yaml into a [Policy] (who may come in), and pgmtls.yaml into a [Control]
// (what a daemon of the control plane is).
//
// It takes a file as a whole or not at all, and a file with mistakes gives all of them at once, each with its line,
// the key, what was written and what to write instead. The rows that decode the keys also make the reference in
// docs/configuration.md. The package opens no file but the one it is asked for: whether certificates and keys are
// there and fit together is found where they are read, in package policy.
//
// It stands at the start of the flow of rules, config to policy to session, and imports no other package of this
// module. The control plane uses it too, to check what it is about to write.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Proxy is a proxy.yaml that is valid by itself. Its paths are resolved against the file's directory; nothing has been
// opened, bound or dialled.
type Proxy struct {
	Listen                []netip.AddrPort // at least one, no two alike
	Backend               Backend
	PolicyDir             string
	Name                  string // of the database; empty: the policy's header has it, or nothing
	Admin                 Address
	AdminPublic           bool           // Admin may be an address that other machines reach
	ProxyProtocol         []netip.Prefix // connections from here begin with a PROXY header
	Limits                Limits
	Drain                 Drain
	Log                   Log
	CancelRequests        CancelRequests
	SSLMinProtocolVersion uint16 // tls.VersionTLS12 or tls.VersionTLS13
	TCP                   TCP
}

// Backend is the PostgreSQL server behind the proxy.
type Backend struct {
	Network, Address string     // "unix" and an absolute path, or "tcp" and host:port
	TLS              BackendTLS // always BackendTLSOff for "unix"
	CA               File       // empty Path: none. Set with verify-ca and verify-full, and only then
	Cert, Key        File       // the proxy's own client certificate: both or neither
	ServerName       string     // the name that the server's certificate must have; empty when TLS is off
	// IdentitySettings adds the client's address and certificate to each session's settings.
	IdentitySettings bool
	// ConnectTimeout bounds one attempt from dial to the end of the TLS handshake.
	ConnectTimeout time.Duration
	// FirstByteTimeout bounds the time from the startup packet to the server's first byte.
	FirstByteTimeout time.Duration
}

// BackendTLS specifies how the proxy protects its own connection to PostgreSQL, in the words of libpq's sslmode.
type BackendTLS string

const (
	BackendTLSOff        BackendTLS = "off"
	BackendTLSRequire    BackendTLS = "require"     // encrypted to whoever answers
	BackendTLSVerifyCA   BackendTLS = "verify-ca"   // the chain is checked
	BackendTLSVerifyFull BackendTLS = "verify-full" // the chain and the name are checked
)

// Limits bound what clients can take.
type Limits struct {
	Sessions           int // connections at once, at least 1
	SessionsPerAddress int // 0: no limit
	Handshakes         int // TLS handshakes at once; 0: the program chooses by the number of cores
	// HandshakesPerSecond bounds the handshakes that begin; 0: no limit.
	HandshakesPerSecond  int
	UnfinishedPerAddress int // connections of one address that are no session yet; 0: no limit
	StartupTimeout       time.Duration
	SessionLifetime      time.Duration // 0: no limit
	IdleTimeout          time.Duration // 0: no limit
}

// Drain is how the process ends.
type Drain struct {
	Grace      time.Duration // how long live sessions may go on
	ReadyDelay time.Duration // how long new connections are still taken after readiness is withdrawn
}

// Log is what is logged, and how.
type Log struct {
	Level  LogLevel
	Format LogFormat // empty: as [Log.FormatFor] says
}

// FormatFor returns the form of a log that goes to a terminal, or elsewhere, if the file names none.
func (l Log) FormatFor(terminal bool) LogFormat {
	switch {
	case l.Format != "":
		return l.Format
	case terminal:
		return LogConsole
	}
	return LogJSON
}

// LogLevel is the lowest level that is logged, in zerolog's words.
type LogLevel string

// LogFormat is the form of a log event.
type LogFormat string

// The levels and the forms.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"

	LogJSON    LogFormat = "json"    // for machines: one object a line
	LogConsole LogFormat = "console" // for people
)

// CancelRequests specifies which cancel requests are forwarded.
type CancelRequests string

const (
	CancelOwn CancelRequests = "own" // the key is of a live session here, and the request comes from its address
	CancelAny CancelRequests = "any" // any from an allowed address: the session may live on another proxy
)

// TCP is what keeps track of dead peers, on both legs.
type TCP struct {
	KeepalivesIdle     time.Duration // whole seconds
	KeepalivesInterval time.Duration // whole seconds
	KeepalivesCount    int
	UserTimeout        time.Duration // 0: the system's own
}

// LoadProxy reads and parses a proxy.yaml. The error is Problems, or wraps the *fs.PathError of reading.
func LoadProxy(path string) (*Proxy, error) {
	text, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read configuration: %w; write the file, or name another one with --config", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read configuration: %w; let the user that runs pgmtls-proxy read the file", err)
	case err != nil:
		return nil, fmt.Errorf("read configuration: %w; name a proxy.yaml with --config", err)
	}
	return ParseProxy(path, text)
}

// read reads a file as far as ParseProxy needs it to say that it is too large.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxText+1))
}

// ParseProxy reads the text of a proxy.yaml. File is the name that problems show, and relative paths in the text are
// relative to its directory. The error is Problems, with all that is wrong.
func ParseProxy(file string, text []byte) (*Proxy, error) {
	d := &decoder{file: file, written: map[string]Position{}}
	root, ok := parseYAML(file, text, &d.problems)
	if !ok {
		return nil, d.problems.err()
	}
	p := &Proxy{}
	v := value{node: root, d: d}
	decode(v, proxyFields, p)
	p.checkListen(v)
	p.checkAdmin(v)
	p.Backend.check(v)
	if err := d.problems.err(); err != nil {
		return nil, err
	}
	p.resolve(filepath.Dir(file))
	return p, nil
}

// resolve makes relative paths absolute or relative to the working directory, as dir is.
func (p *Proxy) resolve(dir string) {
	for _, path := range []*string{&p.PolicyDir, &p.Backend.CA.Path, &p.Backend.Cert.Path, &p.Backend.Key.Path} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}
