// Package peers starts the proxies that are compared, all configured alike: TLS 1.3 on a loopback port, a client certificate
// of one CA required, no session tickets or caches, no log of single connections, sessions handed one to one to a database
// on a unix socket. Whatever else they can be told stays at the default of their distribution.
//
// It knows how each is configured and started, not what is done to it.
package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"pgmtls-proxy/bench/internal/proc"
	"pgmtls-proxy/internal/testkit/testpki"
)

// Database and User are what every session asks for, and what PgBouncer is told to ask for.
const (
	Database = "postgres"
	User     = "postgres"
)

// OpenSSL is the text of an openssl.cnf under which everyone who uses that library has the one cipher that Go chooses by itself.
// OpenSSL would take AES-256, and whose choice counts differs between programs.
const OpenSSL = `openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
Ciphersuites = TLS_AES_128_GCM_SHA256
`

// Site is what a proxy is told.
type Site struct {
	Dir     string // for its files: its own, and short, since sockets may be in it
	Port    int    // of 127.0.0.1
	Backend string // the directory with the database's socket
	Socket  string // and the socket's name there
	CA      []byte // PEM
	Server  *testpki.Pair
	Rules   int // how many networks are allowed, where the proxy knows such rules; at least 1
	// Sessions is how many at once it must allow. Each takes two descriptors.
	Sessions int
	// Cores is how many processors it may use; 0: all.
	Cores   int
	Account proc.Account
}

func (s Site) path(name string) string { return filepath.Join(s.Dir, name) }

func (s Site) socketPath() string { return filepath.Join(s.Backend, s.Socket) }

func (s Site) address() string { return "127.0.0.1:" + strconv.Itoa(s.Port) }

// Kind is one program to compare.
type Kind struct {
	Name string
	// Direct says that it can't answer PostgreSQL's SSLRequest: clients must begin with TLS.
	Direct bool
	// Own is this repository's program, with either engine. Its runtime gives memory back after a while.
	Own bool

	program string   // looked for in PATH, unless it is one
	version []string // the arguments that make it tell its version
	// configure writes the files and gives the arguments.
	configure func(Site) (args []string, err error)
}

// Names under which results are filed.
const (
	Proxy     = "pgmtls-proxy"
	Pair      = "pgmtls-proxy (pair)"
	PgBouncer = "PgBouncer"
	Stunnel   = "stunnel"
	HAProxy   = "HAProxy"
	Nginx     = "nginx"
)

// Kinds are all programs. The directory has the two builds of this repository's.
func Kinds(built string) []Kind {
	return []Kind{
		{Name: Proxy, Own: true, program: filepath.Join(built, "pgmtls-proxy"), version: []string{"version"}, configure: configureProxy},
		{Name: Pair, Own: true, program: filepath.Join(built, "pgmtls-proxy-pair"), version: []string{"version"}, configure: configureProxy},
		{Name: PgBouncer, program: "pgbouncer", version: []string{"--version"}, configure: configurePgBouncer},
		{Name: Stunnel, program: "stunnel4", version: []string{"-version"}, configure: configureStunnel},
		{Name: HAProxy, Direct: true, program: "haproxy", version: []string{"-v"}, configure: configureHAProxy},
		{Name: Nginx, Direct: true, program: "nginx", version: []string{"-v"}, configure: configureNginx},
	}
}

// versionText matches a version, or the commit that this repository's program was built from.
var versionText = regexp.MustCompile(`[0-9]+\.[0-9][^\s,]*|\b[0-9a-f]{7,}(-dirty)?\b`)

// Version asks the program. The error says that it is not here.
func (k Kind) Version() (string, error) {
	path, err := k.find()
	if err != nil {
		return "", err
	}
	output, err := exec.Command(path, k.version...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", path, err, output)
	}
	if found := versionText.FindString(string(output)); found != "" {
		return found, nil
	}
	return "unknown", nil
}

// find looks in the directories of services too, which are not in everyone's PATH.
func (k Kind) find() (string, error) {
	path, err := exec.LookPath(k.program)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", k.program))
	}
	return path, err
}

// Start configures and starts the program. It may not serve yet.
func (k Kind) Start(site Site) (*proc.Process, error) {
	program, err := k.find()
	if err != nil {
		return nil, err
	}
	if k.Own {
		// The account that runs it may not reach where it was built.
		copied := site.path("pgmtls-proxy")
		if output, err := exec.Command("cp", program, copied).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("copy %s: %w: %s", program, err, output)
		}
		program = copied
	}
	args, err := k.configure(site)
	if err == nil {
		err = os.WriteFile(site.path("openssl.cnf"), []byte(OpenSSL), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("configure %s: %w", k.Name, err)
	}
	if err := site.Account.Own(site.Dir); err != nil {
		return nil, err
	}
	return proc.Start(proc.Program{
		Path: program, Args: args, Cores: site.Cores, Dir: site.Dir, Log: site.path("log"), Account: site.Account,
		Env: []string{"OPENSSL_CONF=" + site.path("openssl.cnf")},
	})
}

// write writes the certificates and one file of text.
func (s Site) write(name, text string) error {
	return errors.Join(
		s.Server.Write(s.path("server")),
		os.WriteFile(s.path("ca.pem"), s.CA, 0o644),
		os.WriteFile(s.path(name), []byte(text), 0o644))
}
