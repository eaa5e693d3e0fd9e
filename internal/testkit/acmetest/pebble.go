package acmetest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// Options of a Pebble.
type Options struct {
	DNS string // host and port of the server that it asks; it validates every challenge

	RetryAfter    int               // seconds in Retry-After of authorizations and orders; 0: no such header
	BadNonces     int               // percent of the requests that it refuses by their nonce
	EAB           map[string]string // MAC keys by key id; not nil: external account binding is required
	Blocked       []string          // names that it issues nothing for
	CAAIdentities []string          // as its directory says; it looks up no CAA record itself
	Roots         int               // alternative roots besides the first
	Profiles      map[string]uint64 // lifetimes in seconds; nil: "default" of 90 days
}

// CA is a Pebble that runs.
type CA struct {
	Directory string // URL
	Trust     *x509.CertPool
	TrustPEM  []byte // the same, for programs

	host       string // host and port of the ACME server
	management string // URL of the management interface
	client     *http.Client
	t          T
}

// StartCA starts Pebble. It forgets everything when it ends.
func StartCA(t T, options Options) *CA {
	t.Helper()
	program := pebbleProgram(t)
	for range 5 {
		if ca := tryCA(t, program, options); ca != nil {
			return ca
		}
	}
	t.Fatal("no Pebble came up: others took its ports five times, or it ended by itself")
	return nil
}

// pebbleProgram builds Pebble, or finds it in the cache of the go command, which keeps tools.
func pebbleProgram(t T) string {
	t.Helper()
	program, err := buildPebble()
	if err != nil {
		t.Fatalf("build Pebble: %v", err)
	}
	return program
}

var buildPebble = sync.OnceValues(func() (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	command := exec.Command("go", "-C", filepath.Join(root, "tools", "pebble"), "tool", "-n", "pebble")
	output, err := command.Output()
	if failure, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", errors.New(string(failure.Stderr))
	}
	return strings.TrimSpace(string(output)), err
})

// repository finds the root of this module above the test's directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "tools", "pebble", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("there is no tools/pebble above the test's directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

func tryCA(t T, program string, options Options) *CA {
	t.Helper()
	authority := testpki.MustCA(t, "the HTTPS side of Pebble")
	pair := authority.MustIssue(t, testpki.Server("localhost", "127.0.0.1"))
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type profile struct {
		Description    string `json:"description"`
		ValidityPeriod uint64 `json:"validityPeriod"`
	}
	profiles := map[string]profile{}
	for name, seconds := range options.Profiles {
		profiles[name] = profile{"a profile of " + name, seconds}
	}
	if len(profiles) == 0 {
		profiles["default"] = profile{"the only one", uint64(90 * 24 * time.Hour / time.Second)}
	}
	host, management := loopback(freePort(t)), loopback(freePort(t))
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress":                  host,
		"managementListenAddress":        management,
		"certificate":                    write("cert.pem", pair.CertPEM),
		"privateKey":                     write("key.pem", pair.KeyPEM),
		"httpPort":                       1, // no challenge of these tests goes there
		"tlsPort":                        1,
		"externalAccountBindingRequired": options.EAB != nil,
		"externalAccountMACKeys":         options.EAB,
		"domainBlocklist":                options.Blocked,
		"caaIdentities":                  options.CAAIdentities,
		"keyAlgorithm":                   "ecdsa",
		"retryAfter":                     map[string]int{"authz": options.RetryAfter, "order": options.RetryAfter},
		"profiles":                       profiles,
	}})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "-config", write("config.json", config), "-strict", "-dnsserver", options.DNS)
	command.Dir = dir
	command.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0",
		"PEBBLE_WFE_NONCEREJECT="+decimal(options.BadNonces), "PEBBLE_ALTERNATE_ROOTS="+decimal(options.Roots))
	running := start(t, command)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	ca := &CA{Directory: "https://" + host + "/dir", Trust: authority.Pool(), TrustPEM: authority.PEM(), host: host, management: "https://" + management,
		client: &http.Client{Timeout: patience, Transport: transport}, t: t}
	up := running.await(t, "pebble", func() bool {
		for _, url := range []string{ca.Directory, ca.management + "/roots/0"} {
			answer, err := ca.client.Get(url)
			if err != nil {
				return false
			}
			answer.Body.Close()
		}
		return true
	})
	if !up {
		return nil
	}
	return ca
}

// Root returns the certificate of a root that Pebble issues from, in PEM: 0 is that of the chain that it offers first.
func (ca *CA) Root(n int) []byte {
	ca.t.Helper()
	return ca.get(ca.management + "/roots/" + decimal(n))
}

// SetRenewalWindow has Pebble answer questions about the renewal of a certificate with the text, whatever it is.
func (ca *CA) SetRenewalWindow(certificatePEM []byte, text string) {
	ca.t.Helper()
	body, err := json.Marshal(map[string]string{"certificate": string(certificatePEM), "ariResponse": text})
	if err != nil {
		ca.t.Fatal(err)
	}
	answer, err := ca.client.Post(ca.management+"/set-renewal-info/", "application/json", strings.NewReader(string(body)))
	if err != nil {
		ca.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		ca.t.Fatalf("set the renewal window: %s", answer.Status)
	}
}

// Revoked reports whether Pebble has revoked the certificate of a serial number in hexadecimal.
func (ca *CA) Revoked(serial string) bool {
	ca.t.Helper()
	var status struct{ Status string }
	if err := json.Unmarshal(ca.get(ca.management+"/cert-status-by-serial/"+serial), &status); err != nil {
		ca.t.Fatal(err)
	}
	return status.Status == "Revoked"
}

func (ca *CA) get(url string) []byte {
	ca.t.Helper()
	answer, err := ca.client.Get(url)
	if err != nil {
		ca.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		ca.t.Fatalf("GET %s: %s, %v", url, answer.Status, err)
	}
	return text
}
