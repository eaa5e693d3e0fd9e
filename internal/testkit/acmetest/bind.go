package acmetest

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// DNS is an authoritative name server with one zone, in which the key may change TXT records and nothing else.
type DNS struct {
	Address string // host and port, UDP and TCP
	Zone    string // absolute, as in "example.test."

	KeyName      string // of the TSIG key, absolute
	KeySecret    string // in base64
	KeyAlgorithm string // as in dns.HmacSHA256

	process *process
	t       T
}

// The server's configuration. It asks nobody; of all names outside of its zone it says that there are none.
const namedConf = `options {
	directory %[1]q;
	listen-on port %[2]d { 127.0.0.1; };
	listen-on-v6 { none; };
	pid-file none;
	session-keyfile none;
	recursion no;
	dnssec-validation no;
	notify no;
	allow-transfer { none; };
	empty-zones-enable no;
};
controls { };
key %[3]q { algorithm hmac-sha256; secret %[4]q; };
zone %[5]q {
	type primary;
	file "zone.db";
	update-policy { grant %[3]q zonesub TXT; };
};
zone "." {
	type primary;
	file "root.db";
};
`

// StartDNS starts BIND with a zone, to which records are added as in a zone file, one each. Names without a final dot
// are relative to the zone. The zone's own NS and SOA records are there already.
func StartDNS(t T, zone string, records ...string) *DNS {
	t.Helper()
	program := findNamed(t)
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		t.Fatal(err)
	}
	d := &DNS{Zone: dns.Fqdn(zone), KeyName: "acme.", KeyAlgorithm: dns.HmacSHA256, KeySecret: base64.StdEncoding.EncodeToString(secret), t: t}
	for range 5 {
		if d.try(program, records) {
			return d
		}
	}
	t.Fatal("no BIND came up: others took its port five times, or it ended by itself")
	return nil
}

// findNamed finds the server, which the distribution keeps out of the path of ordinary users.
func findNamed(t T) string {
	t.Helper()
	for _, name := range []string{"named", "/usr/sbin/named"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Fatal("there is no named: make setup installs bind9")
	return ""
}

func (d *DNS) try(program string, records []string) bool {
	dir, err := os.MkdirTemp("/tmp", "acmetest.") // not t.TempDir: the server's user must be able to enter it
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			d.t.Error(err)
		}
	})
	port := freePort(d.t)
	d.Address = loopback(port)
	files := map[string]string{
		"named.conf": fmt.Sprintf(namedConf, dir, port, d.KeyName, d.KeySecret, strings.TrimSuffix(d.Zone, ".")),
		"zone.db": "$TTL 1\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n" +
			strings.Join(records, "\n") + "\n",
		"root.db": "$TTL 1\n@ SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 1\n@ NS ns.invalid.\nns.invalid. A 127.0.0.1\n",
	}
	who, err := unprivileged("bind", "nobody")
	if err != nil {
		d.t.Fatal(err)
	}
	paths := []string{dir}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if who != nil {
		for _, path := range paths {
			if err := os.Chown(path, int(who.Uid), int(who.Gid)); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	command := exec.Command(program, "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	command.Dir = dir
	command.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	d.process = start(d.t, command)
	return d.process.await(d.t, "named", func() bool {
		answer, err := d.exchange(d.Zone, dns.TypeSOA)
		return err == nil && len(answer.Answer) > 0
	})
}

func (d *DNS) exchange(name string, kind uint16) (*dns.Msg, error) {
	client := &dns.Client{Timeout: 2 * time.Second}
	answer, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), d.Address)
	return answer, err
}

// TXT returns the values of the TXT records of a name, as the server has them now.
func (d *DNS) TXT(name string) []string {
	d.t.Helper()
	answer, err := d.exchange(name, dns.TypeTXT)
	if err != nil {
		d.t.Fatalf("ask for TXT of %s: %v", name, err)
	}
	var values []string
	for _, record := range answer.Answer {
		if txt, ok := record.(*dns.TXT); ok {
			values = append(values, strings.Join(txt.Txt, ""))
		}
	}
	return values
}

// Freeze stops the server from answering, without closing its sockets; Thaw lets it go on.
func (d *DNS) Freeze() { d.process.signal(syscall.SIGSTOP) }

// Thaw lets the server go on after Freeze.
func (d *DNS) Thaw() { d.process.signal(syscall.SIGCONT) }
