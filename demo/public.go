package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"pgmtls-proxy/internal/testkit/acmetest"
)

// publicZone is where the public names of the databases are. Nobody else has such names (RFC 6761).
const publicZone = "pg.example.test"

// enhance gives the database a certificate of an authority that a client's machine knows, beside its private one.
func enhance(ctx context.Context, d *demo) (verdict string, err error) {
	d.show.say("A public authority and a name server would be on the internet. Here they are Pebble, Let's Encrypt's own for tests, and BIND.")
	if err := d.startAuthority(); err != nil {
		return "", err
	}
	if _, err := d.must(ctx, "cat pgmtls.yaml"); err != nil {
		return "", err
	}
	d.show.say("The control plane is started again with this file:")
	if err := errors.Join(d.stop(d.control), d.startControlPlane(ctx)); err != nil {
		return "", err
	}
	o, err := d.must(ctx, "pgmtls enhanced-certificates enable shop --wait", "Enabled after", "host:")
	if err != nil {
		return "", err
	}
	took, notFound := o.find(regexp.MustCompile(`(?m)^(Enabled after .+)$`))
	o, err = d.must(ctx, `pgmtls url shop --user app --dbname shop --roots "$PWD/bundle.pem" --dir client`, "sslmode=verify-full", "The previous URL stays valid")
	if err := errors.Join(notFound, err); err != nil {
		return "", err
	}
	// The files come from the environment, and the name leads to this machine, as the DNS would have it.
	url, notFound := o.find(regexp.MustCompile(`DATABASE_URL='([^']+?)&sslcert=`))
	if notFound != nil {
		return "", notFound
	}
	line := "export PUBLIC_URL=" + shellQuote(url+"&hostaddr=127.0.0.1")
	d.show.typed(line)
	if err := d.export(line); err != nil {
		return "", err
	}
	const query = `psql "$PUBLIC_URL" -Atc "select 'let in'"`
	d.show.say("bundle.pem knows the public authority's root, and nothing of the space's CA. The client's certificate is needed as before:")
	_, publicErr := d.must(ctx, query, "let in")
	_, refusedErr := d.fails(ctx, "PGSSLCERT= PGSSLKEY= "+query, noConnection, "The client sent no certificate")
	d.show.say("The old URL still works:")
	privateErr := d.letIn(ctx, "")
	_, disableErr := d.must(ctx, "pgmtls enhanced-certificates disable shop --confirm shop --wait", "Disabled after")
	_, goneErr := d.fails(ctx, query, noConnection, "certificate verify failed")
	return took + "; public and private name worked together, with client certificates", errors.Join(publicErr, refusedErr, privateErr, disableErr, goneErr, d.letIn(ctx, ""))
}

// startAuthority starts the authority and the name server, and writes the control plane's file and what it names.
func (d *demo) startAuthority() (err error) {
	stage := &stage{d: d}
	d.public = stage
	defer stage.recovered(&err)
	dns := acmetest.StartDNS(stage, publicZone)
	ca := acmetest.StartCA(stage, acmetest.Options{DNS: dns.Address, CAAIdentities: []string{"pebble.test"}})
	config := fmt.Sprintf(`data_dir: control
listen: %q
acme:
  cas: [{name: pebble, directory: %q, trust_file: pebble.pem}]
  agree_to_terms: true
  hosts: {zone: %s}
  dns:
    rfc2136: {server: %q, zone: %s, key_file: acme.tsig}
    resolvers: %q
    check: %q  # the DNS names servers, and no port
`, loopback(d.controlPort), ca.Directory, publicZone, dns.Address, publicZone, dns.Address, dns.Address)
	key := fmt.Sprintf("key %q {\n\talgorithm hmac-sha256;\n\tsecret %q;\n};\n", strings.TrimSuffix(dns.KeyName, "."), dns.KeySecret)
	d.controlArgs = []string{"serve", "--config", "pgmtls.yaml"}
	return errors.Join(
		os.WriteFile(d.path("pgmtls.yaml"), []byte(config), 0o644),
		os.WriteFile(d.path("acme.tsig"), []byte(key), 0o600),
		os.WriteFile(d.path("pebble.pem"), ca.TrustPEM, 0o644),
		os.WriteFile(d.path("bundle.pem"), ca.Root(0), 0o644))
}

// stage is what the programs of the test kit need of a test, in the demo: what they start ends with tearDown.
type stage struct {
	d      *demo
	ends   []func()
	failed bool
}

// fatal is how a start is given up, up to recovered.
type fatal struct{ err error }

func (s *stage) recovered(err *error) {
	switch p := recover().(type) {
	case nil:
	case fatal:
		*err = p.err
	default:
		panic(p)
	}
}

// Helper does nothing: the demo shows no lines.
func (s *stage) Helper() {}

// Failed reports whether something was wrong.
func (s *stage) Failed() bool { return s.failed }

// Cleanup has f called by close, the last one first.
func (s *stage) Cleanup(f func()) { s.ends = append(s.ends, f) }

// Logf shows a text.
func (s *stage) Logf(format string, args ...any) { s.d.show.say(format, args...) }

// Error notes and shows what is wrong.
func (s *stage) Error(args ...any) {
	s.failed = true
	s.d.show.bad("%s", fmt.Sprint(args...))
}

// Fatal gives the start up.
func (s *stage) Fatal(args ...any) {
	s.failed = true
	panic(fatal{errors.New(fmt.Sprint(args...))})
}

// Fatalf is Fatal with a format.
func (s *stage) Fatalf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

// TempDir makes a directory that close removes.
func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp(s.d.state(), "authority.")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) }) // the next demo removes what is left
	return dir
}

// close ends what was started.
func (s *stage) close() {
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
	s.ends = nil
}
