package control

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/acmetest"
	"pgmtls-proxy/internal/testkit/eventually"
)

// site is what is there before the first public certificate: a public authority, and the DNS of the zone example.test.
type site struct {
	dns    *acmetest.DNS
	faults *acmetest.Faults // in front of the authority
	Bundle string           // a file of roots that clients trust: the authority's, and no other
	dir    string
}

// newSite starts both. Records are those of the zone, as in a zone file.
func newSite(t testing.TB, profiles map[string]uint64, records ...string) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), dns: acmetest.StartDNS(t, "example.test", records...)}
	ca := acmetest.StartCA(t, acmetest.Options{DNS: s.dns.Address, CAAIdentities: []string{"pebble.test"}, RetryAfter: 1, Profiles: profiles})
	s.faults = acmetest.StartFaults(t, ca)
	s.Bundle = s.file(t, "bundle.pem", string(ca.Root(0)))
	s.file(t, "directory.pem", string(s.faults.CertificatePEM()))
	s.file(t, "acme.tsig", fmt.Sprintf("key %q {\n\talgorithm hmac-sha256;\n\tsecret %q;\n};\n", s.dns.KeyName, s.dns.KeySecret))
	return s
}

func (s *site) file(t testing.TB, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(s.dir, name)
	writeFile(t, path, text)
	return path
}

// plane starts a daemon whose databases have public names below a zone, with certificates of a profile.
func (s *site) plane(t testing.TB, zone, names, profile string) *plane {
	t.Helper()
	return configured(t, map[string]any{"acme": map[string]any{
		"cas":            []any{map[string]any{"name": "pebble", "directory": s.faults.Directory, "trust_file": filepath.Join(s.dir, "directory.pem"), "profile": profile}},
		"agree_to_terms": true,
		"hosts":          map[string]any{"zone": zone, "names": names},
		"dns": map[string]any{
			"rfc2136":   map[string]any{"server": s.dns.Address, "zone": "example.test", "key_file": filepath.Join(s.dir, "acme.tsig")},
			"resolvers": []string{s.dns.Address},
			"check":     []string{s.dns.Address},
		},
	}})
}

// orders is how many orders the authority was asked for.
func (s *site) orders() int { return s.faults.Requests(acmetest.NewOrderPath) }

// clean wants that no challenge is left in the DNS.
func (s *site) clean(t testing.TB, host string) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if left := s.dns.TXT("_acme-challenge." + host); len(left) > 0 {
			return fmt.Errorf("records are left for %s: %q", host, left)
		}
		return nil
	})
}

// enhanced is the status of a public certificate, as the API gives it.
type enhanced struct {
	Status, Host, Reason, Detail, Serial, URL string
}

// enhanced reads the status of a database's public certificate.
func (p *plane) enhanced(t testing.TB, database string) (e enhanced) {
	t.Helper()
	p.read(t, &e, "enhanced-certificates", "status", database)
	return e
}

// becomes waits until a public certificate is as wanted.
func (p *plane) becomes(t testing.TB, database string, wanted func(enhanced) bool) (e enhanced) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if e = p.enhanced(t, database); !wanted(e) {
			return errNotYet(e)
		}
		return nil
	})
	return e
}

// public is a client that uses the public name, and the authority's root. Its files are those of another client.
func (s *site) public(v visitor, host string) visitor {
	v.host, v.roots = host, s.Bundle
	return v
}

// holdsNone wants that no file of a directory has any of the texts in it.
func holdsNone(t testing.TB, root string, secrets map[string]string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files++
		text := readFile(t, path)
		for name, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s in it", path, name)
			}
		}
		return nil
	})
	if err != nil || files < 2 {
		t.Errorf("%d files were looked at: %v", files, err)
	}
}
