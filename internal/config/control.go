package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Control is a pgmtls.yaml that is valid by itself: what one daemon of the control plane is. Its paths are resolved
// against the file's directory; nothing has been opened, bound or dialled.
type Control struct {
	DataDir   string
	Listen    []netip.AddrPort // of the API; at least one, no two alike
	Names     []string         // DNS names and IP addresses of the API's certificate, beside its own; only without TLS.Cert
	PublicURL string           // where other machines reach the API, without a closing slash; empty: not said
	TLS       ControlTLS
	PlainHTTP bool // the API speaks HTTP without TLS; every Listen is a loopback address then
	Store     Store
	// MasterKeyFile seals the private keys in the store.
	MasterKeyFile string
	// Node is this daemon's name: the proxies of this node get their policy from it. Only ParseControl leaves it empty,
	// for the host's name.
	Node string
	// PolicyRoots are the directories in which this node's proxies have their policy directories; at least one. None
	// of them holds DataDir.
	PolicyRoots        []string
	ClientCertificates ClientCertificates
	ServerCertificates ServerCertificates
	CRLValidity        time.Duration // a revocation list is signed anew when half of it is over
	AuditKeep          time.Duration
	Limits             ControlLimits
	Notify             Notify
	ACME               ACME
	Log                Log
}

// ControlTLS is the API's own server certificate. Without one the control plane's own authority issues it.
type ControlTLS struct{ Cert, Key File } // both or neither

// Store is an external etcd. Without endpoints the daemon has its own in DataDir, and only Prefix counts.
type Store struct {
	Endpoints    []string // "https://host:port", or "http://" on loopback; all of one scheme, no two alike
	CA           File     // empty Path: the system's authorities
	Cert, Key    File     // the daemon's client certificate: both or neither
	Username     string
	PasswordFile string // set with Username, and only then
	Prefix       string // starts and ends with a slash, and is more than one
}

// ClientCertificates is how long clients' certificates last.
type ClientCertificates struct {
	ValidityMonths int           // of the calendar
	RenewBefore    time.Duration // shorter than the validity
}

// ServerCertificates is how long the databases' own certificates last.
type ServerCertificates struct {
	Validity    time.Duration
	RenewBefore time.Duration // shorter than Validity
}

// ControlLimits bound what one token can ask for.
type ControlLimits struct {
	RequestsPerSecond int
	Burst             int // at least RequestsPerSecond
}

// Notify is who is told of certificates that end. Either, both or none.
type Notify struct {
	Webhook NotifyWebhook
	Mail    NotifyMail
}

// NotifyWebhook is where notices are posted to: nowhere with an empty URL.
type NotifyWebhook struct {
	URL        string // https, or http on loopback; without user and password
	SecretFile string // set with URL
}

// NotifyMail is the mail server and the recipients: no mail with an empty Address.
type NotifyMail struct {
	Address      string // host:port
	From         string
	To           []string // at least one with Address
	Username     string
	PasswordFile string  // set with Username, and only then
	TLS          MailTLS // not MailTLSOff beyond loopback
}

// MailTLS is how the connection to the mail server is protected.
type MailTLS string

const (
	MailStartTLS MailTLS = "starttls" // begins in clear text, and must become TLS
	MailTLSOn    MailTLS = "tls"      // TLS from the first byte
	MailTLSOff   MailTLS = "off"
)

// LoadControl reads and parses a pgmtls.yaml, and fills in the host's name for Node. The error is Problems, or wraps
// the *fs.PathError of reading.
func LoadControl(path string) (*Control, error) {
	text, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read configuration: %w; write the file, or name another one with --config", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read configuration: %w; let the user that runs pgmtls read the file", err)
	case err != nil:
		return nil, fmt.Errorf("read configuration: %w; name a pgmtls.yaml with --config", err)
	}
	c, err := ParseControl(path, text)
	if err != nil || c.Node != "" {
		return c, err
	}
	if c.Node, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("find the host's name: %w; write a name for node in %s", err, path)
	}
	return c, nil
}

// ParseControl reads the text of a pgmtls.yaml. File is the name that problems show, and relative paths in the text are
// relative to its directory. The error is Problems, with all that is wrong.
func ParseControl(file string, text []byte) (*Control, error) {
	d := &decoder{file: file, written: map[string]Position{}}
	root, ok := parseYAML(file, text, &d.problems)
	if !ok {
		return nil, d.problems.err()
	}
	c := &Control{}
	v := value{node: root, d: d}
	decode(v, controlFields, c)
	c.resolve(filepath.Dir(file))
	c.checkListen(v)
	c.checkDirectories(v)
	c.Store.check(v)
	c.checkLifetimes(v)
	c.checkLimits(v)
	c.Notify.check(v)
	c.ACME.check(v)
	if err := d.problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// resolve makes relative paths absolute or relative to the working directory, as dir is, and fills in those that follow
// from data_dir.
func (c *Control) resolve(dir string) {
	under := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		} else if *path != "" {
			*path = filepath.Clean(*path)
		}
	}
	for _, path := range []*string{&c.DataDir, &c.TLS.Cert.Path, &c.TLS.Key.Path, &c.Store.CA.Path, &c.Store.Cert.Path, &c.Store.Key.Path,
		&c.Store.PasswordFile, &c.MasterKeyFile, &c.Notify.Webhook.SecretFile, &c.Notify.Mail.PasswordFile,
		&c.ACME.DNS.RFC2136.KeyFile, &c.ACME.DNS.Webhook.PasswordFile} {
		under(path)
	}
	for i := range c.ACME.CAs {
		under(&c.ACME.CAs[i].TrustFile.Path)
		under(&c.ACME.CAs[i].EAB.KeyFile)
	}
	for i := range c.PolicyRoots {
		under(&c.PolicyRoots[i])
	}
	if c.MasterKeyFile == "" {
		c.MasterKeyFile = filepath.Join(c.DataDir, "master.key")
	}
	if c.PolicyRoots == nil {
		c.PolicyRoots = []string{filepath.Join(c.DataDir, "policies")}
	}
}
