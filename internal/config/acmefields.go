package config

import (
	"path/filepath"
	"regexp"
	"time"
)

var acmeFields = []field[ACME]{
	groupListField(Key{Name: "cas", Bounds: "1 to 8 items",
		Meaning: "The certificate authorities, in the order in which they are tried."},
		listRule{1, 8}, acmeCAFields, acmeCAAt, func(a *ACME) *[]ACMECA { return &a.CAs }),
	boolField(Key{Name: "agree_to_terms",
		Meaning: "That you agree to the terms of service of these authorities. Must be true."},
		func(a *ACME) *bool { return &a.AgreeToTerms }),
	groupField(Key{Name: "hosts",
		Meaning: "The public names of the databases."},
		acmeHostsFields, func(a *ACME) *ACMEHosts { return &a.Hosts }),
	groupField(Key{Name: "dns",
		Meaning: "How the names are proved. Exactly one of rfc2136, webhook, exec and persist."},
		acmeDNSFields, func(a *ACME) *ACMEDNS { return &a.DNS }),
	{Key{Name: "preferred_root", Type: "SHA-256", Absent: "the first chain that the authority offers",
		Meaning: "The root to which the chain should lead, where an authority offers several, by its SHA-256 in hexadecimal. If none does, the first chain is taken."},
		func(v value, a *ACME) { a.PreferredRoot = v.asFingerprint() }},
}

var acmeCAFields = []field[ACMECA]{
	{Key{Name: "name", Type: "text", Required: true, Bounds: "1 to 32 lower-case letters, digits and dashes",
		Meaning: "Your name for it, in the status, the log and the metrics. An account is kept under this name."},
		func(v value, c *ACMECA) { c.Name = v.asCAName() }},
	{Key{Name: "directory", Type: "URL", Required: true, Bounds: "https",
		Meaning: "The URL of its ACME directory."},
		func(v value, c *ACMECA) { c.Directory = v.asDirectoryURL() }},
	pemField(Key{Name: "trust_file", Absent: "the system's authorities",
		Meaning: "PEM file with the CA certificates that verify the directory's own certificate, for an authority of your own."},
		func(c *ACMECA) *File { return &c.TrustFile }),
	textField(Key{Name: "profile", Absent: "the authority's default",
		Meaning: "The profile of the certificates, as the authority names it. One that it does not offer any more is left out, with a warning in the log."},
		textRule{1, 64, true}, func(c *ACMECA) *string { return &c.Profile }),
	{Key{Name: "contact", Type: "mail address", Absent: "none",
		Meaning: "The address that the authority writes to about the account."},
		func(v value, c *ACMECA) { c.Contact, _ = v.asMailAddress() }},
	groupField(Key{Name: "eab",
		Meaning: "External account binding, if the authority demands it."},
		acmeEABFields, func(c *ACMECA) *ACMEEAB { return &c.EAB }),
	integerField(Key{Name: "after_failures", Default: "3",
		Meaning: "After how many failures in a row for one certificate the next authority is tried."},
		1, 100, func(c *ACMECA) *int { return &c.AfterFailures }),
	groupField(Key{Name: "new_orders",
		Meaning: "The authority's limit of new orders of an account. The defaults are within Let's Encrypt's."},
		acmeLimitFields("250", "40s"), func(c *ACMECA) *ACMELimit { return &c.NewOrders }),
	groupField(Key{Name: "certificates",
		Meaning: "The authority's limit of certificates for one registered domain. Renewals are not counted. The defaults are within Let's Encrypt's."},
		acmeLimitFields("45", "204m"), func(c *ACMECA) *ACMELimit { return &c.Certificates }),
}

var acmeEABFields = []field[ACMEEAB]{
	textField(Key{Name: "key_id",
		Meaning: "The key id. Requires key_file."},
		textRule{1, 512, true}, func(e *ACMEEAB) *string { return &e.KeyID }),
	pathField(Key{Name: "key_file", Type: "file",
		Meaning: "The file with the MAC key in base64url, on one line. Not readable by others."},
		func(e *ACMEEAB) *string { return &e.KeyFile }),
}

// acmeLimitFields are the keys of a limit, with the defaults of one.
func acmeLimitFields(burst, every string) []field[ACMELimit] {
	return []field[ACMELimit]{
		integerField(Key{Name: "burst", Default: burst,
			Meaning: "How many are allowed at once, after a pause. 0 is no limit."},
			0, 1_000_000, func(l *ACMELimit) *int { return &l.Burst }),
		durationField(Key{Name: "every", Default: every,
			Meaning: "The time after which one more is allowed."},
			durationBounds{min: time.Millisecond, max: 24 * time.Hour}, func(l *ACMELimit) *time.Duration { return &l.Every }),
	}
}

var acmeHostsFields = []field[ACMEHosts]{
	{Key{Name: "zone", Type: "domain",
		Meaning: "The domain below which the public names are. You make the address records of the names."},
		func(v value, h *ACMEHosts) { h.Zone = v.asZone() }},
	choiceField(Key{Name: "names", Default: "opaque",
		Meaning: "What the names tell; certificates are published for ever. opaque: nothing. database: the database's name. space-wildcard: the database's name below its space's; the certificate has *.SPACE.ZONE, and its key is on every proxy of the space."},
		[]ACMENames{ACMENamesOpaque, ACMENamesDatabase, ACMENamesSpace}, func(h *ACMEHosts) *ACMENames { return &h.Names }),
}

var acmeDNSFields = []field[ACMEDNS]{
	groupField(Key{Name: "rfc2136",
		Meaning: "Makes records by dynamic updates (RFC 2136)."},
		acmeRFC2136Fields, func(d *ACMEDNS) *ACMERFC2136 { return &d.RFC2136 }),
	groupField(Key{Name: "webhook",
		Meaning: "Has records made by an HTTP server that speaks lego's httpreq protocol."},
		acmeWebhookFields, func(d *ACMEDNS) *ACMEWebhook { return &d.Webhook }),
	{Key{Name: "exec", Type: "program", Bounds: "an absolute path",
		Meaning: "Has records made by a program: PROGRAM present NAME VALUE, PROGRAM cleanup NAME VALUE. It gets PATH and HOME and no other variable, and has a minute."},
		func(v value, d *ACMEDNS) { d.Exec = v.asProgram() }},
	boolField(Key{Name: "persist",
		Meaning: "Proves names by dns-persist-01: you make one record, which pgmtls acme records shows, and the daemon changes nothing in the DNS. Must be true."},
		func(d *ACMEDNS) *bool { return &d.Persist }),
	oneOrMoreField(Key{Name: "resolvers", Type: "address or list of addresses", Absent: "those of /etc/resolv.conf", Bounds: "1 to 8 items, each host:port",
		Meaning: "Name servers that see the public DNS as the authorities do. Set them where this network has a view of its own."},
		listRule{1, 8}, value.asNameServer, func(d *ACMEDNS) *[]string { return &d.Resolvers }),
	oneOrMoreField(Key{Name: "check", Type: "address or list of addresses", Absent: "those that the DNS names for the record's zone", Bounds: "1 to 8 items, each host:port",
		Meaning: "The public name servers that must have a record before the authority looks for it."},
		listRule{1, 8}, value.asNameServer, func(d *ACMEDNS) *[]string { return &d.Check }),
}

var acmeRFC2136Fields = []field[ACMERFC2136]{
	{Key{Name: "server", Type: "address", Bounds: "host:port",
		Meaning: "The zone's primary name server."},
		func(v value, r *ACMERFC2136) { r.Server, _ = v.asNameServer() }},
	{Key{Name: "zone", Type: "domain",
		Meaning: "The zone that is changed. If it is not the one of hosts.zone, each name needs an alias into it, which pgmtls enhanced-certificates records shows."},
		func(v value, r *ACMERFC2136) { r.Zone = v.asZone() }},
	pathField(Key{Name: "key_file", Type: "file",
		Meaning: "The file with the key, as tsig-keygen writes it. Not readable by others."},
		func(r *ACMERFC2136) *string { return &r.KeyFile }),
}

var acmeWebhookFields = []field[ACMEWebhook]{
	{Key{Name: "url", Type: "URL", Bounds: "https, or http on loopback",
		Meaning: "The URL. Requests go to URL/present and URL/cleanup."},
		func(v value, w *ACMEWebhook) { w.URL = v.asWebhookOfDNS() }},
	textField(Key{Name: "username",
		Meaning: "The user. Requires password_file."},
		textRule{1, 256, true}, func(w *ACMEWebhook) *string { return &w.Username }),
	pathField(Key{Name: "password_file", Type: "file",
		Meaning: "The file with its password, on one line."},
		func(w *ACMEWebhook) *string { return &w.PasswordFile }),
}

var caName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// asCAName reads a name that stands in keys of the store and in labels of series.
func (v value) asCAName() string {
	if !v.is(scalar) {
		return ""
	}
	if !caName.MatchString(v.text) {
		v.refuse(complaint{"is not a name for an authority", "write 1 to 32 lower-case letters, digits and dashes, starting with a letter"})
		return ""
	}
	return v.text
}

func (v value) asProgram() string {
	text, ok := v.asText(pathRule)
	if ok && !filepath.IsAbs(text) {
		v.refuse(complaint{"is not an absolute path", "write the program's path from the root"})
		return ""
	}
	return text
}
