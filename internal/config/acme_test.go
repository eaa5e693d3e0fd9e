package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const goodACME = `data_dir: /d
acme:
  cas:
    - name: letsencrypt
      directory: https://acme-v02.api.letsencrypt.org/directory
      profile: tlsserver
      contact: ops@example.com
    - name: own
      directory: https://ca.internal/acme/directory
      trust_file: own.pem
      eab: {key_id: k1, key_file: own.eab}
      after_failures: 5
      new_orders: {burst: 0}
      certificates: {burst: 3, every: 2m}
  agree_to_terms: true
  hosts: {zone: PG.example.com., names: database}
  dns:
    rfc2136: {server: "192.0.2.53:53", zone: acme.example.com, key_file: acme.tsig}
    resolvers: "1.1.1.1:53"
    check: ["ns1.example.com:53", "[2001:db8::53]:53"]
  preferred_root: "AB:CD:EF:0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
`

func TestACMEBlockIsWhatTheTextSays(t *testing.T) {
	c, err := ParseControl("/etc/pgmtls/pgmtls.yaml", []byte(goodACME))
	if err != nil {
		t.Fatal(err)
	}
	trust := c.ACME.CAs[1].TrustFile
	if trust.Path != "/etc/pgmtls/own.pem" || trust.Position.Line != 10 {
		t.Errorf("trust_file: %+v", trust)
	}
	c.ACME.CAs[1].TrustFile = File{}
	want := ACME{
		CAs: []ACMECA{
			{Name: "letsencrypt", Directory: "https://acme-v02.api.letsencrypt.org/directory", Profile: "tlsserver", Contact: "ops@example.com",
				AfterFailures: 3, NewOrders: ACMELimit{250, 40 * time.Second}, Certificates: ACMELimit{45, 204 * time.Minute}},
			{Name: "own", Directory: "https://ca.internal/acme/directory", EAB: ACMEEAB{"k1", "/etc/pgmtls/own.eab"},
				AfterFailures: 5, NewOrders: ACMELimit{0, 40 * time.Second}, Certificates: ACMELimit{3, 2 * time.Minute}},
		},
		AgreeToTerms: true,
		Hosts:        ACMEHosts{"pg.example.com", ACMENamesDatabase},
		DNS: ACMEDNS{RFC2136: ACMERFC2136{"192.0.2.53:53", "acme.example.com", "/etc/pgmtls/acme.tsig"},
			Resolvers: []string{"1.1.1.1:53"}, Check: []string{"ns1.example.com:53", "[2001:db8::53]:53"}},
		PreferredRoot: "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
	}
	if !reflect.DeepEqual(c.ACME, want) {
		t.Errorf("\n got %+v\nwant %+v", c.ACME, want)
	}
}

// A block that could issue nothing would be found out when somebody waits for a certificate.
func TestACMEProblemsNameLineFieldValueAndFix(t *testing.T) {
	const (
		base = "data_dir: /d\nacme:\n"
		cas  = "  cas: [{name: le, directory: \"https://ca/dir\"}]\n"
		rest = "  agree_to_terms: true\n  hosts: {zone: pg.example.com}\n"
		dns  = "  dns: {persist: true}\n"
	)
	ca := func(keys string) string { return base + "  cas: [{" + keys + "}]\n" + rest + dns }
	way := func(keys string) string { return base + cas + rest + "  dns: {" + keys + "}\n" }
	for name, c := range map[string]struct{ text, want string }{
		"nothing in it": {base + "  preferred_root: ab\n",
			"pgmtls.yaml:2: acme: has no cas; add cas: and the certificate authorities, as in [{name: letsencrypt, directory: https://acme-v02.api.letsencrypt.org/directory}]\n" +
				"pgmtls.yaml:2: acme: has no agree_to_terms; add agree_to_terms: and true, once you have read the terms of service of the authorities\n" +
				"pgmtls.yaml:2: acme: has no hosts; add hosts: and the zone of the databases' public names, as in {zone: pg.example.com}\n" +
				"pgmtls.yaml:2: acme: has no dns; add dns: and how their names are proved: rfc2136, webhook, exec or persist\n" +
				"pgmtls.yaml:3: acme.preferred_root: \"ab\" is not a SHA-256; write 64 hexadecimal digits, as openssl x509 -noout -fingerprint -sha256 shows them"},
		"no authority": {base + "  cas: []\n" + rest + dns, `pgmtls.yaml:3: acme.cas: is empty; write at least one item`},
		"terms that nobody agreed to": {base + cas + "  agree_to_terms: false\n  hosts: {zone: pg.example.com}\n" + dns,
			`pgmtls.yaml:4: acme.agree_to_terms: is false, and no authority issues anything without it; read their terms of service and write true, or remove acme`},
		"hosts without a zone": {base + cas + "  agree_to_terms: true\n  hosts: {names: opaque}\n" + dns,
			`pgmtls.yaml:5: acme.hosts: has no zone; add zone: and the zone of the databases' public names, as in pg.example.com`},
		"a zone of one label": {base + cas + "  agree_to_terms: true\n  hosts: {zone: internal}\n" + dns,
			`pgmtls.yaml:5: acme.hosts.zone: "internal" is not a zone; write the domain below which the names are, as in pg.example.com`},
		"an address for a zone": {base + cas + "  agree_to_terms: true\n  hosts: {zone: 192.0.2.1}\n" + dns,
			`pgmtls.yaml:5: acme.hosts.zone: "192.0.2.1" is not a zone; write the domain below which the names are, as in pg.example.com`},
		"names of no kind": {base + cas + "  agree_to_terms: true\n  hosts: {zone: pg.example.com, names: uuid}\n" + dns,
			`pgmtls.yaml:5: acme.hosts.names: "uuid" is not a choice; write opaque, database or space-wildcard`},

		"an authority without a directory": {ca("name: le"), `pgmtls.yaml:3: acme.cas[0].directory: is missing; add it: the URL of its ACME directory`},
		"an authority of no name":          {ca("name: Let's Encrypt, directory: \"https://ca/dir\""), `pgmtls.yaml:3: acme.cas[0].name: "Let's Encrypt" is not a name for an authority; write 1 to 32 lower-case letters, digits and dashes, starting with a letter`},
		"a directory in clear text":        {ca("name: le, directory: \"http://127.0.0.1/dir\""), `pgmtls.yaml:3: acme.cas[0].directory: "http://127.0.0.1/dir" is not encrypted; write https://, with trust_file for an authority of your own`},
		"a directory with a user":          {ca("name: le, directory: \"https://a:hunter22@ca/dir\""), `pgmtls.yaml:3: acme.cas[0].directory: has a user in it; remove it: the account's key authenticates, and eab binds it to an account of yours`},
		"a directory of nonsense":          {ca("name: le, directory: letsencrypt"), `pgmtls.yaml:3: acme.cas[0].directory: "letsencrypt" is not the URL of an ACME directory; write it as in https://acme-v02.api.letsencrypt.org/directory`},
		"half a binding":                   {ca("name: le, directory: \"https://ca/dir\", eab: {key_id: x}"), `pgmtls.yaml:3: acme.cas[0].eab.key_id: is set without key_file; add key_file: and the file with its MAC key`},
		"no limit, and every so often":     {ca("name: le, directory: \"https://ca/dir\", new_orders: {burst: 0, every: 1s}"), `pgmtls.yaml:3: acme.cas[0].new_orders.every: has no effect with a burst of 0, which is no limit; remove it, or write a burst`},
		"two of one name": {base + "  cas: [{name: le, directory: \"https://ca/dir\"}, {name: le, directory: \"https://cb/dir\"}]\n" + rest + dns,
			`pgmtls.yaml:3: acme.cas[1].name: is le again; give each authority its own name`},

		"no way to prove":       {way("resolvers: \"1.1.1.1:53\""), `pgmtls.yaml:6: acme.dns: has no way to prove a name; add one of rfc2136, webhook, exec and persist`},
		"two ways to prove":     {way("exec: /bin/x, persist: true"), `pgmtls.yaml:6: acme.dns.persist: is beside exec; keep one of exec, persist`},
		"persist that is not":   {way("persist: false"), `pgmtls.yaml:6: acme.dns.persist: is false; write true, or one of rfc2136, webhook and exec in its place`},
		"half a name server":    {way("rfc2136: {zone: a.b}"), "pgmtls.yaml:6: acme.dns.rfc2136: has no server; add server: and the zone's primary name server, as in 192.0.2.53:53\npgmtls.yaml:6: acme.dns.rfc2136: has no key_file; add key_file: and the file with the key, as tsig-keygen writes it"},
		"a server without port": {way("rfc2136: {server: \"2001:db8::1\", zone: a.b, key_file: k}"), `pgmtls.yaml:6: acme.dns.rfc2136.server: "2001:db8::1" has no port; write [2001:db8::1]:53`},
		"a resolver of nothing": {way("persist: true, resolvers: [ns1, \"https://dns\"]"), "pgmtls.yaml:6: acme.dns.resolvers[0]: \"ns1\" has no port; write ns1:53\npgmtls.yaml:6: acme.dns.resolvers[1]: \"https://dns\" is not the address of a name server; write it as in 192.0.2.53:53"},
		"a hook without a URL":  {way("webhook: {username: u, password_file: p}"), `pgmtls.yaml:6: acme.dns.webhook: has no url; add url: and the URL of the server, as in https://dns.example.com/acme`},
		"a hook in clear text":  {way("webhook: {url: \"http://dns/\"}"), `pgmtls.yaml:6: acme.dns.webhook.url: "http://dns/" is not encrypted, and not on this machine; write https://`},
		"a hook with a user":    {way("webhook: {url: \"https://u:hunter22@dns/\"}"), `pgmtls.yaml:6: acme.dns.webhook.url: has a user in it; put the user in username, and the name of the file with the password in password_file`},
		"half a hook's user":    {way("webhook: {url: \"https://dns/\", username: u}"), `pgmtls.yaml:6: acme.dns.webhook.username: is set without password_file; add password_file: and the file with its password`},
		"a program somewhere":   {way("exec: dns-hook"), `pgmtls.yaml:6: acme.dns.exec: "dns-hook" is not an absolute path; write the program's path from the root`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ParseControl("pgmtls.yaml", []byte(c.text))
			if p != nil {
				t.Fatal("a refused text gave a configuration")
			}
			got := problems(t, err)
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			if strings.Contains(got, "hunter22") {
				t.Error("a secret is shown")
			}
		})
	}
}

// checkACME holds a parsed block to what ACME promises.
func checkACME(t *testing.T, a ACME) {
	t.Helper()
	ways := 0
	for _, way := range []bool{a.DNS.RFC2136.Server != "", a.DNS.Webhook.URL != "", a.DNS.Exec != "", a.DNS.Persist} {
		if way {
			ways++
		}
	}
	switch {
	case len(a.CAs) == 0 && ways > 0, len(a.CAs) > 0 && (ways != 1 || !a.AgreeToTerms || a.Hosts.Zone == ""):
		t.Fatalf("%+v", a)
	case a.DNS.Exec != "" && !filepath.IsAbs(a.DNS.Exec), (a.DNS.Webhook.Username == "") != (a.DNS.Webhook.PasswordFile == ""):
		t.Fatalf("%+v", a.DNS)
	case a.DNS.RFC2136.Server != "" && (a.DNS.RFC2136.Zone == "" || a.DNS.RFC2136.KeyFile == ""):
		t.Fatalf("%+v", a.DNS)
	}
	names := map[string]bool{}
	for _, ca := range a.CAs {
		if names[ca.Name] || !strings.HasPrefix(ca.Directory, "https://") && !strings.HasPrefix(strings.ToLower(ca.Directory), "https:") || (ca.EAB.KeyID == "") != (ca.EAB.KeyFile == "") {
			t.Fatalf("%+v", ca)
		}
		names[ca.Name] = true
	}
}
