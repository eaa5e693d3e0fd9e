package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// policyFields are the keys of policy.yaml.
var policyFields = []field[Policy]{
	textField(Key{Name: "generation",
		Meaning: "The control plane's name for this version of the policy. Status, metrics and logs show it."},
		textRule{0, 128, true}, func(p *Policy) *string { return &p.Generation }),
	choiceField(Key{Name: "client_auth", Default: "required",
		Meaning: "Whether clients need a certificate. required: every client needs a valid one. optional: a client may omit it, but a presented one must be valid. off: none is requested."},
		[]ClientAuth{ClientAuthRequired, ClientAuthOptional, ClientAuthOff}, func(p *Policy) *ClientAuth { return &p.ClientAuth }),
	fileListField(Key{Name: "client_ca", Absent: "only with client_auth: off",
		Meaning: "PEM files with the CA certificates that issue client certificates. During a rotation there are several."},
		listRule{0, maxFiles}, func(p *Policy) *[]File { return &p.ClientCA }),
	fileListField(Key{Name: "client_crl", Default: emptyList,
		Meaning: "PEM files with revocation lists. If there is any, every CA needs a current one: a client whose CA has none, or one that is out of date, is refused."},
		listRule{0, maxFiles}, func(p *Policy) *[]File { return &p.ClientCRL }),
	listField(Key{Name: "revoked", Type: "list of serials", Default: emptyList,
		Meaning: "Serial numbers of client certificates that are refused, in addition to the revocation lists. Hex pairs, with or without colons."},
		listRule{0, maxRevoked}, value.asSerial, func(p *Policy) *[]Serial { return &p.Revoked }),
	groupListField(Key{Name: "certificates", Required: true,
		Meaning: "The server certificates. The name that the client requests (SNI) selects one: an exact name before a wildcard."},
		listRule{1, maxFiles}, certificateFields, certificateAt, func(p *Policy) *[]Certificate { return &p.Certificates }),
	groupListField(Key{Name: "identities", Default: emptyList,
		Meaning: "Which certificate may log in as which database user. None: any valid certificate as any user. Needs client_auth: required."},
		listRule{0, maxIdentities}, identityFields, identityAt, func(p *Policy) *[]Identity { return &p.Identities }),
	choiceField(Key{Name: "on_removal", Default: "end",
		Meaning: "What happens to live sessions that a change no longer allows. end: they end at a message boundary. keep: they continue."},
		[]OnRemoval{OnRemovalEnd, OnRemovalKeep}, func(p *Policy) *OnRemoval { return &p.OnRemoval }),
	durationField(Key{Name: "end_grace", Default: "5s",
		Meaning: "How long a session in a query, which is cancelled, has to end before its connections are closed. With on_removal: end."},
		durationBounds{max: 10 * time.Minute}, func(p *Policy) *time.Duration { return &p.EndGrace }),
	groupListField(Key{Name: "ip_rules", Required: true,
		Meaning: "The networks that may connect. With an empty list, no client can connect. Must be the last key, so that a truncated file never admits more clients."},
		listRule{0, MaxIPRules}, ruleFields, ruleAt, func(p *Policy) *[]IPRule { return &p.IPRules }),
}

var certificateFields = []field[Certificate]{
	fileField(Key{Name: "cert", Required: true,
		Meaning: "PEM file with the certificate, followed by its intermediate certificates."},
		func(c *Certificate) *File { return &c.Cert }),
	fileField(Key{Name: "key", Required: true,
		Meaning: "PEM file with the private key, not encrypted, not readable by others."},
		func(c *Certificate) *File { return &c.Key }),
	boolField(Key{Name: "default", Default: "false",
		Meaning: "Used for clients that request no server name, or one that no certificate has. One of several certificates must be the default; a single one is."},
		func(c *Certificate) *bool { return &c.Default }),
}

var ruleFields = []field[IPRule]{
	textField(Key{Name: "id", Required: true,
		Meaning: "The rule's name in status, logs and answers. It must be unique."},
		textRule{1, 128, true}, func(r *IPRule) *string { return &r.ID }),
	textField(Key{Name: "description",
		Meaning: "A description for people."},
		textRule{0, 256, false}, func(r *IPRule) *string { return &r.Description }),
	{Key{Name: "expires_at", Type: "time (RFC 3339)", Absent: "never",
		Meaning: "From this time on the rule allows no client. A time in the past is not an error. Must come before cidr, unless the rule is in braces."},
		func(v value, r *IPRule) { r.ExpiresAt = v.asTime() }},
	{Key{Name: "cidr", Type: "network", Required: true, Bounds: "no host bits, not IPv4-mapped, no two alike",
		Meaning: "An IPv4 or IPv6 network; /32 or /128 for one address. 0.0.0.0/0 does not cover IPv6, ::/0 does not cover IPv4."},
		func(v value, r *IPRule) { r.CIDR, _ = v.asCIDR() }},
}

var identityFields = []field[Identity]{
	textField(Key{Name: "subject_cn",
		Meaning: "The certificate's subject has exactly this common name."},
		textRule{1, 256, true}, func(i *Identity) *string { return &i.SubjectCN }),
	{Key{Name: "dns", Type: "text", Bounds: "a name without wildcard",
		Meaning: "One of the certificate's DNS names is this one, ignoring case."},
		func(v value, i *Identity) { i.DNS = v.asDNSName() }},
	{Key{Name: "uri", Type: "text", Bounds: "at most 2048 bytes",
		Meaning: "One of the certificate's URIs is exactly this one, such as spiffe://space/app."},
		func(v value, i *Identity) { i.URI = v.asURI() }},
	{Key{Name: "serial", Type: "serial", Bounds: "1 to 20 bytes",
		Meaning: "The certificate has this serial number."},
		func(v value, i *Identity) {
			if s, ok := v.asSerial(); ok {
				i.Serial = &s
			}
		}},
	listField(Key{Name: "users", Type: "list of texts", Absent: "only with any_user: true", Bounds: fmt.Sprintf("at least one, each 1 to %d bytes", maxUser),
		Meaning: "The database users that these certificates may log in as."},
		listRule{1, maxIdentities}, func(v value) (string, bool) { return v.asText(textRule{1, maxUser, false}) },
		func(i *Identity) *[]string { return &i.Users }),
	boolField(Key{Name: "any_user", Default: "false",
		Meaning: "These certificates may log in as any database user, instead of those of a list."},
		func(i *Identity) *bool { return &i.AnyUser }),
}

func certificateAt(v value, c *Certificate) { c.Position = v.position() }

// ruleAt also keeps a rule's end before its network: a file that was cut between the two lines would have a rule
// without an end. In braces nothing can get lost behind the network but the brace too.
func ruleAt(v value, r *IPRule) {
	r.Position = v.position()
	network, end := v.entryOf("cidr"), v.entryOf("expires_at")
	if !v.flow && network >= 0 && end > network {
		v.at(v.path+".expires_at").refuseHidden("stands behind cidr",
			"move it before cidr, or put the rule in braces: without its end the file would have a rule that never expires")
	}
}

// identityAt also counts the names, since an entry with two would leave open whether one or both must fit, and requires
// that the users are told in one way.
func identityAt(v value, i *Identity) {
	i.Position = v.position()
	if v.kind != mapping {
		return
	}
	names := 0
	for _, key := range []string{"subject_cn", "dns", "uri", "serial"} {
		if v.has(v.path + "." + key) {
			names++
		}
	}
	if names != 1 {
		v.refuseHidden(fmt.Sprintf("has %d names of a certificate", names), "write exactly one of subject_cn, dns, uri and serial")
	}
	switch users, anyUser := v.path+".users", v.path+".any_user"; {
	case i.AnyUser && v.has(users):
		v.at(anyUser).refuseHidden("is true beside a list of users", "remove one of the two")
	case !i.AnyUser && !v.has(users) && !v.faulty(anyUser):
		v.at(users).refuseHidden("is missing", "list the database users that these certificates may log in as, or write any_user: true")
	}
}

func fileField[T any](k Key, to func(*T) *File) field[T] {
	k.Type = "file"
	if k.Bounds == "" {
		k.Bounds = "inside the policy directory"
	}
	return field[T]{k, func(v value, into *T) {
		if f, ok := v.asPolicyFile(); ok {
			*to(into) = f
		}
	}}
}

func fileListField[T any](k Key, rule listRule, to func(*T) *[]File) field[T] {
	k.Type = "list of files"
	k.Bounds = rule.String() + ", inside the policy directory"
	return listField(k, rule, value.asPolicyFile, to)
}

// asPolicyFile reads a path that can't leave the policy directory by its text.
func (v value) asPolicyFile() (File, bool) {
	f, ok := v.asFile()
	if ok && !filepath.IsLocal(f.Path) {
		v.refuse(complaint{"is outside of the policy directory", "write a path relative to the directory, without .."})
		return File{}, false
	}
	return f, ok
}

func (v value) asFile() (File, bool) {
	if !v.is(scalar) {
		return File{}, false
	}
	if strings.Contains(v.text, "-----BEGIN") {
		v.refuseHidden("holds a PEM text", "write the name of a file that holds it")
		return File{}, false
	}
	text, ok := v.asText(textRule{1, 1024, true})
	return File{Path: text, Field: v.path, Position: v.position()}, ok
}

func (v value) asSerial() (Serial, bool) {
	if !v.is(scalar) {
		return Serial{}, false
	}
	s, c := parseSerial(v.text)
	if c == nil && !v.quoted && strings.Trim(v.text, "0123456789") == "" {
		// Some tools print serials in decimal. A number that is read in the other base revokes nobody, or somebody else.
		c = &complaint{"has decimal digits only, and does not say whether it is hexadecimal", fmt.Sprintf("if it is, write colons (%s) or quotes; if it is decimal, convert it: openssl x509 -noout -serial prints it in hexadecimal", s)}
	}
	if c != nil {
		v.refuse(*c)
	}
	return s, c == nil
}

func (v value) asCIDR() (netip.Prefix, bool) {
	if !v.is(scalar) {
		return netip.Prefix{}, false
	}
	p, c := parseCIDR(v.text)
	if c != nil {
		v.refuse(*c)
	}
	return p, c == nil
}

// asTime reads a time. The zero time would mean "never expires" to the rule's readers, so it is refused with all that
// is before 1970.
func (v value) asTime() time.Time {
	var t time.Time
	if !v.is(scalar) {
		return t
	}
	switch err := t.UnmarshalText([]byte(v.text)); {
	case err != nil:
		v.refuse(complaint{"is not a time of RFC 3339", "write " + likelyTime(v.text)})
	case t.Year() < 1970:
		v.refuse(complaint{"is before 1970", "write a later time, or remove the key for a rule that does not expire"})
	default:
		return t
	}
	return time.Time{}
}

// likelyTime completes a time that lacks its zone, or its time of day, in UTC.
func likelyTime(text string) string {
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Format(time.RFC3339)
		}
	}
	return "date, time and zone, as in 2027-01-01T00:00:00Z"
}

func (v value) asDNSName() string {
	text, ok := v.asText(textRule{1, 253, true})
	if ok && !isHostname(text) {
		v.refuse(complaint{"is not a DNS name", "write one name as the certificate has it, without a wildcard"})
		return ""
	}
	return strings.ToLower(text)
}

func (v value) asURI() string {
	text, ok := v.asText(textRule{1, 2048, true})
	if !ok {
		return ""
	}
	if u, err := url.Parse(text); err != nil || !u.IsAbs() {
		v.refuse(complaint{"is not a URI", "write it as the certificate has it, such as spiffe://space/app"})
		return ""
	}
	return text
}
