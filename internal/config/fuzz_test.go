package config

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParsePolicy holds every text to one rule: it is refused with problems that can be printed, or it is a policy
// that fulfils what Policy promises.
func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{good, "", "{}", "a: [", "\"\\ud800\": 1", "? a\n: b", "client_auth: off\ncertificates: [{cert: a, key: b}]\nip_rules: []\n",
		inserted("identities:\n- {serial: 1f, users: [u]}\nrevoked: [12:34]\nclient_crl: [c]\non_removal: keep"),
		inserted("identities:\n- {uri: 'urn:pgmtls:database:1', any_user: true}\n- {dns: a, users: [u], any_user: false}"),
		inserted("identities:\n- {uri: 'urn:a', users: [u], any_user: true}\n- {dns: a, any_user: false}"), "a: |\n  b\n", "'", "{a: b: c}", "--- |\n", "generation: \"\\xff\"", "\xef\xbb\xbf", "%YAML 1.2\n---\n", "- - -\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy("p", []byte(text))
		if err != nil {
			checkReport(t, err)
			return
		}
		if len(p.Certificates) == 0 || len(p.IPRules) > MaxIPRules || (p.ClientAuth != ClientAuthOff && len(p.ClientCA) == 0) || p.OnRemoval == "" {
			t.Fatalf("%+v", p)
		}
		defaults := 0
		for _, c := range p.Certificates {
			if c.Default {
				defaults++
			}
			if !filepath.IsLocal(c.Cert.Path) || !filepath.IsLocal(c.Key.Path) {
				t.Fatalf("%+v", c)
			}
		}
		if defaults != 1 {
			t.Fatalf("%d defaults", defaults)
		}
		ids, networks := map[string]bool{}, map[netip.Prefix]bool{}
		for _, r := range p.IPRules {
			if r.ID == "" || ids[r.ID] || networks[r.CIDR] || r.CIDR != r.CIDR.Masked() || r.CIDR.Addr().Is4In6() {
				t.Fatalf("%+v", r)
			}
			ids[r.ID], networks[r.CIDR] = true, true
		}
		for _, id := range p.Identities {
			if _, name := id.name(); name == "" || (len(id.Users) == 0) != id.AnyUser || p.ClientAuth != ClientAuthRequired {
				t.Fatalf("%+v", id)
			}
		}
	})
}

func FuzzParseProxy(f *testing.F) {
	for _, s := range []string{"", "listen: [\"0.0.0.0:5432\"]\nbackend: {address: \"unix:/run/x\"}\n", "{\"listen\":[\"[::1%lo]:1\"],\"backend\":{\"address\":\"db:5432\",\"tls\":\"verify-full\",\"ca\":\"x\"}}", "admin: unix:/x\nlimits: {sessions: 1}\n", "tcp_user_timeout: 9223372036s", "listen: [':']"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProxy("p", []byte(text))
		if err != nil {
			checkReport(t, err)
			return
		}
		admin, err := netip.ParseAddrPort(p.Admin.Address)
		loopback := p.Admin.Network == "unix" || err == nil && admin.Addr().IsLoopback()
		switch {
		case len(p.Listen) == 0, len(p.ProxyProtocol) > 100, !loopback && !p.AdminPublic, p.Limits.Sessions < 1, p.Limits.StartupTimeout <= 0:
			t.Fatalf("%+v", p)
		case p.Backend.Network != "unix" && p.Backend.Network != "tcp", p.Backend.Network == "unix" && p.Backend.TLS != BackendTLSOff:
			t.Fatalf("%+v", p.Backend)
		case (p.Backend.Cert.Path == "") != (p.Backend.Key.Path == ""), p.Backend.TLS == BackendTLSVerifyFull && (p.Backend.CA.Path == "" || p.Backend.ServerName == ""):
			t.Fatalf("%+v", p.Backend)
		}
	})
}

// checkReport refuses an error that a terminal or a log could stumble over.
func checkReport(t *testing.T, err error) {
	t.Helper()
	var all Problems
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, p := range all {
		line := p.Error()
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
			t.Fatalf("not printable: %q", line)
		}
		if p.Message == "" || p.Fix == "" {
			t.Fatalf("no message or no fix: %q", line)
		}
	}
}
