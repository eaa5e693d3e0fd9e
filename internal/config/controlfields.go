package config

import (
	"net/netip"
	"time"
)

// controlFields are the keys of pgmtls.yaml.
var controlFields = []field[Control]{
	required(pathField(Key{Name: "data_dir", Type: "directory",
		Meaning: "The directory of what the daemon keeps: its store, unless store.endpoints names another, and the master key. A relative path is relative to this file."},
		func(c *Control) *string { return &c.DataDir })),
	oneOrMoreField(Key{Name: "listen", Type: "address or list of addresses", Default: "127.0.0.1:9816", Bounds: "1 to 16 items, no two alike",
		Meaning: "The addresses with port on which the API is served. 0.0.0.0 is every IPv4 address, [::] every IPv6 address. Port 0 is any free port; the log says which."},
		listRule{1, 16}, value.asControlListen, func(c *Control) *[]netip.AddrPort { return &c.Listen }),
	oneOrMoreField(Key{Name: "names", Type: "name or list of names", Default: emptyList, Bounds: "at most 50 items, each a DNS name or an IP address",
		Meaning: "Names by which agents and people reach the API, for the certificate that the control plane issues itself. The host's name, localhost and the addresses of listen are in it anyway."},
		listRule{0, 50}, value.asControlName, func(c *Control) *[]string { return &c.Names }),
	groupField(Key{Name: "tls",
		Meaning: "A server certificate of your own for the API. Without it one of the control plane's own authority is served, and renewed."},
		controlTLSFields, func(c *Control) *ControlTLS { return &c.TLS }),
	boolField(Key{Name: "plain_http", Default: "false",
		Meaning: "Serves the API without TLS. Only on loopback addresses: tokens would be read on the way."},
		func(c *Control) *bool { return &c.PlainHTTP }),
	groupField(Key{Name: "store",
		Meaning: "An etcd cluster to keep everything in, for several control planes side by side. Without endpoints the daemon runs its own etcd in data_dir."},
		storeFields, func(c *Control) *Store { return &c.Store }),
	pathField(Key{Name: "master_key_file", Type: "file", Absent: "`master.key` in `data_dir`",
		Meaning: "The file with the keys under which private keys are encrypted in the store. Several control planes need the same one. Keep a copy elsewhere: without it a snapshot of the store is of no use."},
		func(c *Control) *string { return &c.MasterKeyFile }),
	textField(Key{Name: "node", Absent: "the host's name",
		Meaning: "The name of this daemon among several. A proxy that is registered with this node has its policy directory on this machine."},
		textRule{1, 128, true}, func(c *Control) *string { return &c.Node }),
	oneOrMoreField(Key{Name: "policy_roots", Type: "directory or list of directories", Absent: "`policies` in `data_dir`", Bounds: "1 to 16 items, none that holds data_dir",
		Meaning: "The policy directories of proxies on this machine must be in one of these. Whoever may register a proxy could have files written anywhere else."},
		listRule{1, 16}, value.asDirectory, func(c *Control) *[]string { return &c.PolicyRoots }),
	groupField(Key{Name: "client_certificates",
		Meaning: "How long certificates of clients last."},
		clientCertificateFields, func(c *Control) *ClientCertificates { return &c.ClientCertificates }),
	groupField(Key{Name: "server_certificates",
		Meaning: "How long the certificates of databases last."},
		serverCertificateFields, func(c *Control) *ServerCertificates { return &c.ServerCertificates }),
	longField(Key{Name: "crl_validity", Default: "30d",
		Meaning: "How long a revocation list is good for. It is signed anew when half of this is over: with the control plane away for the other half, proxies refuse every client."},
		longBounds{time.Hour, 365 * day}, func(c *Control) *time.Duration { return &c.CRLValidity }),
	longField(Key{Name: "audit_keep", Default: "400d",
		Meaning: "How long the record of changes is kept."},
		longBounds{day, 3650 * day}, func(c *Control) *time.Duration { return &c.AuditKeep }),
	groupField(Key{Name: "limits",
		Meaning: "What one token can ask of the API."},
		controlLimitFields, func(c *Control) *ControlLimits { return &c.Limits }),
	groupField(Key{Name: "notify",
		Meaning: "Who is told of certificates and authorities that end. Without it only the log says so."},
		notifyFields, func(c *Control) *Notify { return &c.Notify }),
	groupField(Key{Name: "log",
		Meaning: "What is logged to standard error."},
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
		Meaning: "PEM file with the certificate, followed by its intermediate certificates. Goes with key."},
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
		Meaning: "PEM file with the CA certificates that the members' certificates are checked against."},
		func(s *Store) *File { return &s.CA }),
	pemField(Key{Name: "cert",
		Meaning: "PEM file with the client certificate that the daemon shows to the members. Goes with key."},
		func(s *Store) *File { return &s.Cert }),
	pemField(Key{Name: "key",
		Meaning: "PEM file with that certificate's private key."},
		func(s *Store) *File { return &s.Key }),
	textField(Key{Name: "username",
		Meaning: "The user of etcd. Goes with password_file."},
		textRule{1, 256, true}, func(s *Store) *string { return &s.Username }),
	pathField(Key{Name: "password_file", Type: "file",
		Meaning: "The file with its password, on one line."},
		func(s *Store) *string { return &s.PasswordFile }),
	{Key{Name: "prefix", Type: "text", Default: "/pgmtls/", Bounds: "starts and ends with a slash, at most 128 bytes",
		Meaning: "What every key in the store starts with. Control planes with another prefix are another world in the same cluster."},
		func(v value, s *Store) { s.Prefix = v.asPrefix() }},
}

var clientCertificateFields = []field[ClientCertificates]{
	integerField(Key{Name: "validity_months", Default: "13",
		Meaning: "How many months of the calendar a client certificate is valid."},
		1, 60, func(c *ClientCertificates) *int { return &c.ValidityMonths }),
	longField(Key{Name: "renew_before", Default: "75d",
		Meaning: "How long before its end its successor is issued, and people are told. Both are valid until then."},
		longBounds{day, 1800 * day}, func(c *ClientCertificates) *time.Duration { return &c.RenewBefore }),
}

var serverCertificateFields = []field[ServerCertificates]{
	longField(Key{Name: "validity", Default: "90d",
		Meaning: "How long a database's certificate is valid."},
		longBounds{time.Hour, 825 * day}, func(s *ServerCertificates) *time.Duration { return &s.Validity }),
	longField(Key{Name: "renew_before", Default: "30d",
		Meaning: "How long before its end it is replaced. Nobody has to do anything."},
		longBounds{time.Minute, 800 * day}, func(s *ServerCertificates) *time.Duration { return &s.RenewBefore }),
}

var controlLimitFields = []field[ControlLimits]{
	integerField(Key{Name: "requests_per_second", Default: "50",
		Meaning: "Requests in a second, on average. Beyond it the answer is 429."},
		1, 100_000, func(l *ControlLimits) *int { return &l.RequestsPerSecond }),
	integerField(Key{Name: "burst", Default: "200",
		Meaning: "Requests at once, after a rest. At least requests_per_second."},
		1, 1_000_000, func(l *ControlLimits) *int { return &l.Burst }),
}

var notifyFields = []field[Notify]{
	groupField(Key{Name: "webhook",
		Meaning: "Posts each notice as JSON, signed as Standard Webhooks asks."},
		notifyWebhookFields, func(n *Notify) *NotifyWebhook { return &n.Webhook }),
	groupField(Key{Name: "mail",
		Meaning: "Mails each notice."},
		notifyMailFields, func(n *Notify) *NotifyMail { return &n.Mail }),
}

var notifyWebhookFields = []field[NotifyWebhook]{
	{Key{Name: "url", Type: "URL", Bounds: "https, or http on loopback",
		Meaning: "Where to. Redirects are not followed."},
		func(v value, w *NotifyWebhook) { w.URL = v.asWebhookURL() }},
	pathField(Key{Name: "secret_file", Type: "file",
		Meaning: "The file with the secrets that sign, one a line, each whsec_ and 24 to 64 bytes in base64. All of them sign, so that a receiver may know the old one or the new one."},
		func(w *NotifyWebhook) *string { return &w.SecretFile }),
}

var notifyMailFields = []field[NotifyMail]{
	{Key{Name: "address", Type: "address", Bounds: "host:port",
		Meaning: "The mail server, as in mail.example.com:587."},
		func(v value, m *NotifyMail) { m.Address = v.asMailServer() }},
	{Key{Name: "from", Type: "mail address",
		Meaning: "Who the mails are from."},
		func(v value, m *NotifyMail) { m.From, _ = v.asMailAddress() }},
	oneOrMoreField(Key{Name: "to", Type: "mail address or list of them", Bounds: "1 to 20 items",
		Meaning: "Who gets the mails, each one of their own."},
		listRule{1, 20}, value.asMailAddress, func(m *NotifyMail) *[]string { return &m.To }),
	textField(Key{Name: "username",
		Meaning: "The user of the mail server. Goes with password_file."},
		textRule{1, 256, true}, func(m *NotifyMail) *string { return &m.Username }),
	pathField(Key{Name: "password_file", Type: "file",
		Meaning: "The file with its password, on one line."},
		func(m *NotifyMail) *string { return &m.PasswordFile }),
	choiceField(Key{Name: "tls", Default: "starttls",
		Meaning: "How the connection is protected. starttls begins in clear text and must become TLS (port 587), tls is TLS from the first byte (port 465), off is for a mail server on loopback."},
		[]MailTLS{MailStartTLS, MailTLSOn, MailTLSOff}, func(m *NotifyMail) *MailTLS { return &m.TLS }),
}
