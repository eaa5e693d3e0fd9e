package config

import (
	"net/netip"
	"time"
)

// controlFields are the keys of pgmtls.yaml.
var controlFields = []field[Control]{
	required(pathField(Key{Name: "data_dir", Type: "directory",
		Meaning: "The directory for the store, unless store.endpoints names another, and for the master key. A relative path is relative to this file."},
		func(c *Control) *string { return &c.DataDir })),
	oneOrMoreField(Key{Name: "listen", Type: "address or list of addresses", Default: "127.0.0.1:9816", Bounds: "1 to 16 items, no two alike",
		Meaning: "The addresses, with port, of the API. 0.0.0.0 is every IPv4 address, [::] every IPv6 address. Port 0 selects any free port; the log says which."},
		listRule{1, 16}, value.asControlListen, func(c *Control) *[]netip.AddrPort { return &c.Listen }),
	oneOrMoreField(Key{Name: "names", Type: "name or list of names", Default: emptyList, Bounds: "at most 50 items, each a DNS name or an IP address",
		Meaning: "Names by which agents and people reach the API, for the certificate that the control plane issues. It always contains the host's name, localhost and the addresses of listen."},
		listRule{0, 50}, value.asControlName, func(c *Control) *[]string { return &c.Names }),
	{Key{Name: "public_url", Type: "URL", Absent: "the first of `names` with the port of `listen`, if that is reached from other machines", Bounds: "https, or http with plain_http",
		Meaning: "Where other machines reach the API, as through a load balancer. client.yaml has it, and the command that starts an agent. Its name is in the certificate that the control plane issues."},
		func(v value, c *Control) { c.PublicURL = v.asPublicURL() }},
	groupField(Key{Name: "tls",
		Meaning: "Your own server certificate for the API. Without it, the control plane's own authority issues and renews one."},
		controlTLSFields, func(c *Control) *ControlTLS { return &c.TLS }),
	boolField(Key{Name: "plain_http", Default: "false",
		Meaning: "Serves the API without TLS. Only on loopback addresses: the network would expose tokens."},
		func(c *Control) *bool { return &c.PlainHTTP }),
	groupField(Key{Name: "store",
		Meaning: "An etcd cluster for the state, shared by several control planes. Without endpoints the daemon runs its own etcd in data_dir."},
		storeFields, func(c *Control) *Store { return &c.Store }),
	pathField(Key{Name: "master_key_file", Type: "file", Absent: "`master.key` in `data_dir`",
		Meaning: "The file with the keys under which private keys are encrypted in the store. Several control planes need the same one. Keep a copy elsewhere: without it a snapshot of the store is useless."},
		func(c *Control) *string { return &c.MasterKeyFile }),
	textField(Key{Name: "node", Absent: "the host's name",
		Meaning: "The name of this daemon among several. A proxy that is registered with this node has its policy directory on this machine."},
		textRule{1, 128, true}, func(c *Control) *string { return &c.Node }),
	oneOrMoreField(Key{Name: "policy_roots", Type: "directory or list of directories", Absent: "`policies` in `data_dir`", Bounds: "1 to 16 items, none that holds data_dir",
		Meaning: "The policy directories of proxies on this machine must be below one of these. Otherwise, anybody who may register a proxy could make the daemon write files anywhere."},
		listRule{1, 16}, value.asDirectory, func(c *Control) *[]string { return &c.PolicyRoots }),
	groupField(Key{Name: "client_certificates",
		Meaning: "Client certificates."},
		clientCertificateFields, func(c *Control) *ClientCertificates { return &c.ClientCertificates }),
	groupField(Key{Name: "server_certificates",
		Meaning: "Server certificates of databases."},
		serverCertificateFields, func(c *Control) *ServerCertificates { return &c.ServerCertificates }),
	longField(Key{Name: "crl_validity", Default: "30d",
		Meaning: "How long the revocation list in a policy is valid. It is signed again after half of this time: a proxy that gets no policy for the other half, because it is cut off or the control plane is down, refuses every client."},
		longBounds{time.Hour, 365 * day}, func(c *Control) *time.Duration { return &c.CRLValidity }),
	longField(Key{Name: "audit_keep", Default: "400d",
		Meaning: "How long audit records are kept."},
		longBounds{day, 3650 * day}, func(c *Control) *time.Duration { return &c.AuditKeep }),
	groupField(Key{Name: "limits",
		Meaning: "Limits on the requests of one token."},
		controlLimitFields, func(c *Control) *ControlLimits { return &c.Limits }),
	groupField(Key{Name: "notify",
		Meaning: "Recipients of notifications about certificates and authorities that expire. Without it, only the log reports them."},
		notifyFields, func(c *Control) *Notify { return &c.Notify }),
	groupField(Key{Name: "acme",
		Meaning: "Certificates of public authorities for databases, by ACME. Without it, enhanced certificates can't be enabled."},
		acmeFields, func(c *Control) *ACME { return &c.ACME }),
	groupField(Key{Name: "log",
		Meaning: "The log on standard error."},
		logFields, func(c *Control) *Log { return &c.Log }),
}

// pathRule is a path of a file or a directory.
var pathRule = textRule{1, 1024, true}

// pathField is a file or a directory, as the key's type says, that is no PEM file.
func pathField[T any](k Key, to func(*T) *string) field[T] {
	f := textField(k, pathRule, to)
	f.Type = k.Type
	return f
}

var controlTLSFields = []field[ControlTLS]{
	pemField(Key{Name: "cert",
		Meaning: "PEM file with the certificate, followed by its intermediate certificates. Requires key."},
		func(t *ControlTLS) *File { return &t.Cert }),
	pemField(Key{Name: "key",
		Meaning: "PEM file with its private key, not encrypted, not readable by others."},
		func(t *ControlTLS) *File { return &t.Key }),
}

var storeFields = []field[Store]{
	oneOrMoreField(Key{Name: "endpoints", Type: "URL or list of URLs", Default: emptyList, Bounds: "at most 16 items, https, or http on loopback",
		Meaning: "The members of the cluster, as in https://etcd-1.internal:2379."},
		listRule{0, 16}, value.asEndpoint, func(s *Store) *[]string { return &s.Endpoints }),
	pemField(Key{Name: "ca", Absent: "the system's authorities",
		Meaning: "PEM file with the CA certificates that verify the members' certificates."},
		func(s *Store) *File { return &s.CA }),
	pemField(Key{Name: "cert",
		Meaning: "PEM file with the daemon's client certificate for the members. Requires key."},
		func(s *Store) *File { return &s.Cert }),
	pemField(Key{Name: "key",
		Meaning: "PEM file with that certificate's private key."},
		func(s *Store) *File { return &s.Key }),
	textField(Key{Name: "username",
		Meaning: "The user of etcd. Requires password_file."},
		textRule{1, 256, true}, func(s *Store) *string { return &s.Username }),
	pathField(Key{Name: "password_file", Type: "file",
		Meaning: "The file with its password, on one line."},
		func(s *Store) *string { return &s.PasswordFile }),
	{Key{Name: "prefix", Type: "text", Default: "/pgmtls/", Bounds: "starts and ends with a slash, at most 128 bytes",
		Meaning: "The prefix of every key in the store. Control planes with different prefixes can share a cluster."},
		func(v value, s *Store) { s.Prefix = v.asPrefix() }},
}

var clientCertificateFields = []field[ClientCertificates]{
	integerField(Key{Name: "validity_months", Default: "13",
		Meaning: "How many calendar months a client certificate is valid."},
		1, 60, func(c *ClientCertificates) *int { return &c.ValidityMonths }),
	longField(Key{Name: "renew_before", Default: "75d",
		Meaning: "How long before its end its successor is issued, with a notification. Both are valid until then."},
		longBounds{day, 1800 * day}, func(c *ClientCertificates) *time.Duration { return &c.RenewBefore }),
}

var serverCertificateFields = []field[ServerCertificates]{
	longField(Key{Name: "validity", Default: "90d",
		Meaning: "How long a database's certificate is valid."},
		longBounds{time.Hour, 825 * day}, func(s *ServerCertificates) *time.Duration { return &s.Validity }),
	longField(Key{Name: "renew_before", Default: "30d",
		Meaning: "How long before its end it is replaced. This happens automatically."},
		longBounds{time.Minute, 800 * day}, func(s *ServerCertificates) *time.Duration { return &s.RenewBefore }),
}

var controlLimitFields = []field[ControlLimits]{
	integerField(Key{Name: "requests_per_second", Default: "50",
		Meaning: "Average number of requests in a second. Beyond it the answer is 429."},
		1, 100_000, func(l *ControlLimits) *int { return &l.RequestsPerSecond }),
	integerField(Key{Name: "burst", Default: "200",
		Meaning: "Maximum number of requests at once, after a pause. At least requests_per_second."},
		1, 1_000_000, func(l *ControlLimits) *int { return &l.Burst }),
}

var notifyFields = []field[Notify]{
	groupField(Key{Name: "webhook",
		Meaning: "Posts each notification as JSON, signed as Standard Webhooks specifies."},
		notifyWebhookFields, func(n *Notify) *NotifyWebhook { return &n.Webhook }),
	groupField(Key{Name: "mail",
		Meaning: "Mails each notification."},
		notifyMailFields, func(n *Notify) *NotifyMail { return &n.Mail }),
}

var notifyWebhookFields = []field[NotifyWebhook]{
	{Key{Name: "url", Type: "URL", Bounds: "https, or http on loopback",
		Meaning: "The URL to post to. Redirects are not followed."},
		func(v value, w *NotifyWebhook) { w.URL = v.asWebhookURL() }},
	pathField(Key{Name: "secret_file", Type: "file",
		Meaning: "The file with the signing secrets, one per line, each whsec_ and 24 to 64 bytes in base64. All of them sign, so that a receiver may have the old or the new one."},
		func(w *NotifyWebhook) *string { return &w.SecretFile }),
}

var notifyMailFields = []field[NotifyMail]{
	{Key{Name: "address", Type: "address", Bounds: "host:port",
		Meaning: "The mail server, such as mail.example.com:587."},
		func(v value, m *NotifyMail) { m.Address = v.asMailServer() }},
	{Key{Name: "from", Type: "mail address",
		Meaning: "The sender."},
		func(v value, m *NotifyMail) { m.From, _ = v.asMailAddress() }},
	oneOrMoreField(Key{Name: "to", Type: "mail address or list of them", Bounds: "1 to 20 items",
		Meaning: "The recipients. Each gets a separate mail."},
		listRule{1, 20}, value.asMailAddress, func(m *NotifyMail) *[]string { return &m.To }),
	textField(Key{Name: "username",
		Meaning: "The user of the mail server. Requires password_file."},
		textRule{1, 256, true}, func(m *NotifyMail) *string { return &m.Username }),
	pathField(Key{Name: "password_file", Type: "file",
		Meaning: "The file with its password, on one line."},
		func(m *NotifyMail) *string { return &m.PasswordFile }),
	choiceField(Key{Name: "tls", Default: "starttls",
		Meaning: "How the connection is protected. starttls begins in clear text and must become TLS (port 587), tls is TLS from the first byte (port 465), off is for a mail server on loopback."},
		[]MailTLS{MailStartTLS, MailTLSOn, MailTLSOff}, func(m *NotifyMail) *MailTLS { return &m.TLS }),
}
