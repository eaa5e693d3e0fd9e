package config

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestControlProblemsNameLineFieldValueAndFix(t *testing.T) {
	const base = "data_dir: /var/lib/pgmtls\n"
	mail := func(rest string) string { return base + "notify: {mail: {" + rest + "}}\n" }
	store := func(rest string) string { return base + "store: {" + rest + "}\n" }
	for name, c := range map[string]struct{ text, want string }{
		"nothing": {"log: {}\n",
			"pgmtls.yaml:1: data_dir: is missing; add it: the directory for the store, unless store.endpoints names another, and for the master key"},
		"mistyped key": {base + "plain_htp: true\n", `pgmtls.yaml:2: plain_htp: is not a key that exists; did you mean plain_http?`},
		"all at once": {base + "listen: []\ncrl_validity: 5\nlog: {level: loud}\n",
			"pgmtls.yaml:2: listen: is empty; write at least one item\n" +
				"pgmtls.yaml:3: crl_validity: \"5\" has no unit; write 5d for days, or 5h for hours\n" +
				"pgmtls.yaml:4: log.level: \"loud\" is not a choice; write debug, info, warn or error"},

		"listen on a name":        {base + "listen: localhost:9816\n", `pgmtls.yaml:2: listen: "localhost:9816" is a name, not an address; write 127.0.0.1:9816`},
		"listen on a socket":      {base + "listen: [\"unix:/run/x\"]\n", `pgmtls.yaml:2: listen[0]: "unix:/run/x" is a unix socket; clients come over TCP: write an address with a port, as in 0.0.0.0:9816`},
		"listen twice":            {base + "listen: [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n", `pgmtls.yaml:2: listen: has 127.0.0.1:1 twice; keep one`},
		"plain HTTP for everyone": {base + "listen: [\"127.0.0.1:1\", \"0.0.0.0:2\"]\nplain_http: true\n", `pgmtls.yaml:2: listen: has 0.0.0.0:2, which other machines reach, with plain_http: true; write a loopback address, or remove plain_http`},
		"plain HTTP with a certificate": {base + "plain_http: true\ntls: {cert: a, key: b}\nnames: [a]\n",
			"pgmtls.yaml:3: tls: has no effect with plain_http: true; remove one of the two\n" +
				"pgmtls.yaml:4: names: has no effect with plain_http: true; remove one of the two"},
		"certificate without key":    {base + "tls: {cert: a}\n", `pgmtls.yaml:2: tls.cert: is set without key; add key: and the PEM file of its private key`},
		"key without certificate":    {base + "tls: {key: a}\n", `pgmtls.yaml:2: tls.key: is set without cert; add cert: and the PEM file of its certificate`},
		"names and a certificate":    {base + "tls: {cert: a, key: b}\nnames: [a]\n", `pgmtls.yaml:3: names: has no effect with tls.cert, which has its names in it; remove one of the two`},
		"public URL without scheme":  {base + "public_url: pgmtls.internal\n", `pgmtls.yaml:2: public_url: "pgmtls.internal" is not the URL of the API; write it as in https://pgmtls.example.com:9816`},
		"public URL with a path":     {base + "public_url: https://a.example.com/pgmtls\n", `pgmtls.yaml:2: public_url: "https://a.example.com/pgmtls" has a path; remove it: the API's paths begin at the root`},
		"public URL with a user":     {base + "public_url: https://a:b@a.example.com\n", `pgmtls.yaml:2: public_url: has a user in it; remove it: callers have tokens`},
		"public URL with a wildcard": {base + "public_url: https://*.example.com\n", `pgmtls.yaml:2: public_url: "https://*.example.com" has a name that no certificate can have; write it as in https://pgmtls.example.com:9816`},
		"public URL with port 0":     {base + "public_url: https://a.example.com:0\n", `pgmtls.yaml:2: public_url: "https://a.example.com:0" has a wrong port; write it as in https://pgmtls.example.com:9816`},
		"public URL not encrypted":   {base + "public_url: http://a.example.com\n", `pgmtls.yaml:2: public_url: is not encrypted, and the API is; write https://`},
		"wildcard":                   {base + "names: [\"*.internal\"]\n", `pgmtls.yaml:2: names[0]: "*.internal" is not a name; write a DNS name without wildcard, such as pgmtls.internal, or an IP address`},
		"address with a zone":        {base + "names: [\"fe80::1%eth0\"]\n", `pgmtls.yaml:2: names[0]: "fe80::1%eth0" is not a name; write a DNS name without wildcard, such as pgmtls.internal, or an IP address`},

		"etcd without a scheme":     {store("endpoints: etcd-1:2379"), `pgmtls.yaml:2: store.endpoints: "etcd-1:2379" is not the URL of a member of etcd; write it as in https://etcd-1.internal:2379`},
		"etcd without a port":       {store("endpoints: [\"https://etcd-1\"]"), `pgmtls.yaml:2: store.endpoints[0]: "https://etcd-1" has no port; write it as in https://etcd-1.internal:2379`},
		"etcd in clear text":        {store("endpoints: [\"http://etcd-1:2379\"]"), `pgmtls.yaml:2: store.endpoints[0]: "http://etcd-1:2379" is not encrypted, and not on this machine; write https://, with ca for the members' own authority`},
		"etcd with a password":      {store("endpoints: [\"https://root:hunter22@etcd-1:2379\"]"), `pgmtls.yaml:2: store.endpoints[0]: has a user in it; put the user in username, and the name of the file with its password in password_file`},
		"etcd with a path":          {store("endpoints: [\"https://etcd-1:2379/v3\"]"), `pgmtls.yaml:2: store.endpoints[0]: "https://etcd-1:2379/v3" is not the URL of a member of etcd; write it as in https://etcd-1.internal:2379`},
		"etcd twice":                {store("endpoints: [\"https://a:1/\", \"https://a:1\"]"), `pgmtls.yaml:2: store.endpoints: has https://a:1 twice; keep one`},
		"etcd half encrypted":       {store("endpoints: [\"https://a:1\", \"http://127.0.0.1:1\"]"), `pgmtls.yaml:2: store.endpoints: has http and https; write https:// for all`},
		"a CA and no TLS":           {store("endpoints: \"http://127.0.0.1:1\", ca: x"), `pgmtls.yaml:2: store.ca: has no effect with endpoints of http; write https:// for the endpoints, or remove the key`},
		"etcd's key alone":          {store("endpoints: \"https://a:1\", key: x"), `pgmtls.yaml:2: store.key: is set without cert; add cert: and the PEM file of its certificate`},
		"a user without a password": {store("endpoints: \"https://a:1\", username: x"), `pgmtls.yaml:2: store.username: is set without password_file; add password_file: and the file with its password`},
		"TLS to the own etcd": {store("ca: x, cert: y, key: z"),
			"pgmtls.yaml:2: store.ca: has no effect without endpoints: no other process can reach the daemon's own etcd; add endpoints, or remove the key\n" +
				"pgmtls.yaml:2: store.cert: has no effect without endpoints: no other process can reach the daemon's own etcd; add endpoints, or remove the key\n" +
				"pgmtls.yaml:2: store.key: has no effect without endpoints: no other process can reach the daemon's own etcd; add endpoints, or remove the key"},
		"a prefix of nothing":  {store("prefix: \"//\""), `pgmtls.yaml:2: store.prefix: "//" does not start and end with a slash, with something between; write it as in /pgmtls/`},
		"a prefix without end": {store("prefix: /pgmtls"), `pgmtls.yaml:2: store.prefix: "/pgmtls" does not start and end with a slash, with something between; write it as in /pgmtls/`},

		"policies everywhere":        {base + "policy_roots: /\n", `pgmtls.yaml:2: policy_roots: has /, which is every directory; write the directories of policies`},
		"policies over the data":     {base + "policy_roots: [/srv, /var/lib/pgmtls/]\n", `pgmtls.yaml:2: policy_roots: has /var/lib/pgmtls, which contains data_dir; write a directory of policies only, such as /var/lib/pgmtls/policies`},
		"policies above the data":    {"data_dir: data\npolicy_roots: .\n", `pgmtls.yaml:2: policy_roots: has ., which contains data_dir; write a directory of policies only, such as data/policies`},
		"policies in the same twice": {base + "policy_roots: [/srv, /srv/x/..]\n", `pgmtls.yaml:2: policy_roots: has /srv twice; keep one`},
		"no policies":                {base + "policy_roots: []\n", `pgmtls.yaml:2: policy_roots: is empty; write at least one item`},

		"renewed before issued":             {base + "client_certificates: {validity_months: 2}\n", `pgmtls.yaml:2: client_certificates.renew_before: is 75d, and the certificate lasts 56d; write less, or a longer validity_months`},
		"server renewed before issued":      {base + "server_certificates: {validity: 36h, renew_before: 36h}\n", `pgmtls.yaml:2: server_certificates.renew_before: is 36h, and the certificate lasts 36h; write less, or a longer validity`},
		"months of nonsense":                {base + "client_certificates: {validity_months: 0}\n", `pgmtls.yaml:2: client_certificates.validity_months: "0" is out of bounds; write a number from 1 to 60`},
		"days of nonsense":                  {base + "audit_keep: -1d\n", `pgmtls.yaml:2: audit_keep: "-1d" is not a duration; write a number with a unit: 90d, 36h`},
		"fraction of days":                  {base + "audit_keep: 1.5d\n", `pgmtls.yaml:2: audit_keep: "1.5d" is not a duration; write a number with a unit: 90d, 36h`},
		"more days than any":                {base + "audit_keep: 99999999999999999999d\n", `pgmtls.yaml:2: audit_keep: "99999999999999999999d" is out of bounds; write a duration from 1d to 3650d`},
		"days that overflow":                {base + "audit_keep: 213504d\n", `pgmtls.yaml:2: audit_keep: "213504d" is out of bounds; write a duration from 1d to 3650d`},
		"a burst that is none":              {base + "limits: {requests_per_second: 500}\n", `pgmtls.yaml:2: limits.burst: is 200, less than requests_per_second; write 500 or more`},
		"a webhook without a secret":        {base + "notify: {webhook: {url: \"https://h/\"}}\n", `pgmtls.yaml:2: notify.webhook.url: is set without secret_file; add secret_file: and the file with the signing secrets`},
		"a webhook in clear text":           {base + "notify: {webhook: {url: \"http://hunter22/\", secret_file: x}}\n", `pgmtls.yaml:2: notify.webhook.url: is not encrypted, and not on this machine; write https://`},
		"a webhook with a password":         {base + "notify: {webhook: {url: \"https://a:hunter22@h/\", secret_file: x}}\n", `pgmtls.yaml:2: notify.webhook.url: has a user or a password in it; remove it: the receiver authenticates the sender by the signature`},
		"a webhook of nonsense":             {base + "notify: {webhook: {url: hunter22, secret_file: x}}\n", `pgmtls.yaml:2: notify.webhook.url: is not a URL; write it as in https://hooks.example.com/pgmtls, at most 2048 bytes`},
		"half a mail":                       {mail("to: a@b"), "pgmtls.yaml:2: notify.mail: has no address; add address: and the mail server, as in mail.example.com:587\npgmtls.yaml:2: notify.mail: has no from; add from: and the sender"},
		"mail in clear text":                {mail("address: \"m:25\", from: a@b, to: c@d, tls: off"), `pgmtls.yaml:2: notify.mail.tls: is off, and the mail server is not on this machine; write starttls or tls`},
		"mail server without a port":        {mail("address: m, from: a@b, to: c@d"), `pgmtls.yaml:2: notify.mail.address: "m" has no port; write m:587`},
		"mail server that can't be":         {mail("address: \"smtp://m\", from: a@b, to: c@d"), `pgmtls.yaml:2: notify.mail.address: "smtp://m" is not an address; write it as in mail.example.com:587`},
		"recipients that are none":          {mail("address: \"m:25\", from: a@b, to: [c, \"d@e, f@g\"]"), "pgmtls.yaml:2: notify.mail.to[0]: \"c\" is not a mail address; write it as in ops@example.com\npgmtls.yaml:2: notify.mail.to[1]: \"d@e, f@g\" is not a mail address; write it as in ops@example.com"},
		"mail user without a password":      {mail("address: \"m:25\", from: a@b, to: c@d, username: u"), `pgmtls.yaml:2: notify.mail.username: is set without password_file; add password_file: and the file with its password`},
		"a password and not a file with it": {store("endpoints: \"https://a:1\", username: u, password_file: \"\""), `pgmtls.yaml:2: store.password_file: is empty; write 1 to 1024 bytes, printable`},
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

func TestControlIsWhatTheTextSays(t *testing.T) {
	c, err := ParseControl("/etc/pgmtls/pgmtls.yaml", []byte(`
data_dir: /var/lib/pgmtls/
listen: ["0.0.0.0:9816", "[::1]:9816"]
names: [PGMTLS.internal., "::ffff:192.0.2.1"]
public_url: https://PGMTLS.example.com/
store:
  endpoints: ["https://etcd-1:2379/", "https://[2001:db8::1]:2379"]
  ca: etcd-ca.pem
  cert: etcd.crt
  key: etcd.key
  username: pgmtls
  password_file: etcd.password
  prefix: /space-7/
master_key_file: /secure/master.key
node: db-1
policy_roots: [policies, /srv/proxies]
client_certificates: {validity_months: 1, renew_before: 27d}
server_certificates: {validity: 2h, renew_before: 30m}
crl_validity: 7d
audit_keep: 1d
limits: {requests_per_second: 5, burst: 5}
notify:
  webhook: {url: "http://127.0.0.1:8080/hook", secret_file: webhook.secret}
  mail: {address: "127.0.0.1:25", from: "pgmtls <a@b>", to: c@d, username: u, password_file: mail.password, tls: off}
log: {level: debug, format: console}
`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(line, column int) Position { return Position{"/etc/pgmtls/pgmtls.yaml", line, column} }
	want := &Control{
		PublicURL: "https://pgmtls.example.com",
		DataDir:   "/var/lib/pgmtls",
		Listen:    []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:9816"), netip.MustParseAddrPort("[::1]:9816")},
		Names:     []string{"pgmtls.internal", "192.0.2.1"},
		Store: Store{
			Endpoints: []string{"https://etcd-1:2379", "https://[2001:db8::1]:2379"},
			CA:        File{"/etc/pgmtls/etcd-ca.pem", "store.ca", at(8, 7)},
			Cert:      File{"/etc/pgmtls/etcd.crt", "store.cert", at(9, 9)},
			Key:       File{"/etc/pgmtls/etcd.key", "store.key", at(10, 8)},
			Username:  "pgmtls", PasswordFile: "/etc/pgmtls/etcd.password", Prefix: "/space-7/",
		},
		MasterKeyFile: "/secure/master.key", Node: "db-1",
		PolicyRoots:        []string{"/etc/pgmtls/policies", "/srv/proxies"},
		ClientCertificates: ClientCertificates{1, 27 * day},
		ServerCertificates: ServerCertificates{2 * time.Hour, 30 * time.Minute},
		CRLValidity:        7 * day, AuditKeep: day,
		Limits: ControlLimits{5, 5},
		Notify: Notify{
			NotifyWebhook{"http://127.0.0.1:8080/hook", "/etc/pgmtls/webhook.secret"},
			NotifyMail{"127.0.0.1:25", "pgmtls <a@b>", []string{"c@d"}, "u", "/etc/pgmtls/mail.password", MailTLSOff},
		},
		ACME: ACME{Hosts: ACMEHosts{Names: ACMENamesOpaque}},
		Log:  Log{LogDebug, LogConsole},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("\n got %+v\nwant %+v", c, want)
	}
}

func TestControlNeedsOnlyADirectory(t *testing.T) {
	c, err := ParseControl("etc/pgmtls.yaml", []byte("data_dir: data\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Control{
		DataDir: "etc/data", Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9816")},
		Store: Store{Prefix: "/pgmtls/"}, MasterKeyFile: "etc/data/master.key", PolicyRoots: []string{"etc/data/policies"},
		ClientCertificates: ClientCertificates{13, 75 * day}, ServerCertificates: ServerCertificates{90 * day, 30 * day},
		CRLValidity: 30 * day, AuditKeep: 400 * day, Limits: ControlLimits{50, 200},
		Notify: Notify{Mail: NotifyMail{TLS: MailStartTLS}}, ACME: ACME{Hosts: ACMEHosts{Names: ACMENamesOpaque}}, Log: Log{LogInfo, ""},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("\n got %+v\nwant %+v", c, want)
	}
}

func TestLoadControlFillsInTheHostAndSaysWhatToDoAboutAFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pgmtls.yaml")
	_, err := LoadControl(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "write the file, or name another one with --config") {
		t.Errorf("missing: %v", err)
	}
	if _, err = LoadControl(dir); err == nil || !strings.HasSuffix(err.Error(), "is a directory; name a pgmtls.yaml with --config") {
		t.Errorf("directory: %v", err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for text, node := range map[string]string{"data_dir: d\n": host, "data_dir: d\nnode: n\n": "n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := LoadControl(path); err != nil || c.Node != node || c.DataDir != filepath.Join(dir, "d") {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var all Problems
	if _, err := LoadControl(path); !errors.As(err, &all) {
		t.Errorf("empty: %v", err)
	}
}

// FuzzParseControl holds every text to one rule: it is refused with problems that can be printed, or it is a
// configuration that fulfils what Control promises.
func FuzzParseControl(f *testing.F) {
	for _, s := range []string{goodACME, "", "data_dir: d\n", "{\"data_dir\":\"/d\",\"listen\":\"[::1]:0\",\"plain_http\":true}", "data_dir: d\npolicy_roots: [.., a]\nnames: a\ntls: {cert: a, key: b}\n",
		"data_dir: d\nstore: {endpoints: [\"https://[::1%25lo]:1\"], ca: a}\nserver_certificates: {validity: 1h, renew_before: 59m59s}\n", "data_dir: d\nnotify: {mail: {address: \"m:1\", from: a@b, to: [c@d]}, webhook: {url: \"https://h\", secret_file: s}}\ncrl_validity: 99d\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseControl("p", []byte(text))
		if err != nil {
			checkReport(t, err)
			return
		}
		for _, ap := range c.Listen {
			if c.PlainHTTP && !ap.Addr().IsLoopback() {
				t.Fatalf("%v without TLS", ap)
			}
		}
		for _, root := range c.PolicyRoots {
			if inside, err := filepath.Rel(root, c.DataDir); err == nil && filepath.IsLocal(inside) {
				t.Fatalf("%q holds %q", root, c.DataDir)
			}
		}
		m := c.Notify.Mail
		switch {
		case c.DataDir == "", c.MasterKeyFile == "", len(c.Listen) == 0, len(c.PolicyRoots) == 0:
			t.Fatalf("%+v", c)
		case (c.TLS.Cert.Path == "") != (c.TLS.Key.Path == ""), c.TLS.Cert.Path != "" && (c.PlainHTTP || len(c.Names) > 0):
			t.Fatalf("%+v", c)
		case (c.Store.Cert.Path == "") != (c.Store.Key.Path == ""), (c.Store.Username == "") != (c.Store.PasswordFile == ""), len(c.Store.Endpoints) == 0 && c.Store.Username != "":
			t.Fatalf("%+v", c.Store)
		case c.ServerCertificates.RenewBefore <= 0 || c.ServerCertificates.RenewBefore >= c.ServerCertificates.Validity:
			t.Fatalf("%+v", c.ServerCertificates)
		case c.ClientCertificates.RenewBefore <= 0 || c.ClientCertificates.RenewBefore >= time.Duration(c.ClientCertificates.ValidityMonths)*shortestMonth:
			t.Fatalf("%+v", c.ClientCertificates)
		case c.CRLValidity <= 0, c.AuditKeep <= 0, c.Limits.Burst < c.Limits.RequestsPerSecond, c.Limits.RequestsPerSecond < 1:
			t.Fatalf("%+v", c)
		case (c.Notify.Webhook.URL == "") != (c.Notify.Webhook.SecretFile == ""), (m.Address == "") != (m.From == ""), (m.Address == "") != (len(m.To) == 0), (m.Username == "") != (m.PasswordFile == ""):
			t.Fatalf("%+v", c.Notify)
		}
		checkACME(t, c.ACME)
	})
}
