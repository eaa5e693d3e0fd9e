package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ACME specifies how databases get certificates of public authorities. Without CAs they get none.
type ACME struct {
	CAs          []ACMECA // in the order in which they are tried; no two of one name
	AgreeToTerms bool     // true with CAs
	Hosts        ACMEHosts
	DNS          ACMEDNS
	// PreferredRoot is the SHA-256 of a root in lower-case hexadecimal; empty: the authority's first chain is taken.
	PreferredRoot string
}

// ACMECA is a certificate authority.
type ACMECA struct {
	Name          string
	Directory     string // URL, https
	TrustFile     File   // the authorities of the directory's own certificate; empty Path: the system's
	Profile       string // empty: the authority's default
	Contact       string // a mail address; empty: none
	EAB           ACMEEAB
	AfterFailures int
	NewOrders     ACMELimit // of our account
	Certificates  ACMELimit // of a registered domain
}

// ACMEEAB binds the account to one that was made in another way. Both or neither.
type ACMEEAB struct{ KeyID, KeyFile string }

// ACMELimit is a limit of an authority. A Burst of 0 is no limit.
type ACMELimit struct {
	Burst int
	Every time.Duration
}

// ACMENames specifies which name a database gets below the zone.
type ACMENames string

const (
	ACMENamesOpaque   ACMENames = "opaque"         // one that tells nothing
	ACMENamesDatabase ACMENames = "database"       // that of the database
	ACMENamesSpace    ACMENames = "space-wildcard" // that of the database below that of its space, whose certificate has a wildcard
)

// ACMEHosts are the names of the certificates.
type ACMEHosts struct {
	Zone  string // lower case, without a final dot; not empty with CAs
	Names ACMENames
}

// ACMEDNS is how the names are proved. With CAs exactly one of RFC2136, Webhook, Exec and Persist is set.
type ACMEDNS struct {
	RFC2136 ACMERFC2136
	Webhook ACMEWebhook
	Exec    string // absolute path of a program; empty: none
	Persist bool
	// Resolvers are host and port. None: those of the system.
	Resolvers []string
	// Check are host and port. None: those that the DNS names for the zone of a record.
	Check []string
}

// ACMERFC2136 is a name server that takes dynamic updates. All or none.
type ACMERFC2136 struct {
	Server  string // host and port
	Zone    string // lower case, without a final dot
	KeyFile string
}

// ACMEWebhook is a server that speaks lego's httpreq protocol: none with an empty URL.
type ACMEWebhook struct {
	URL          string // https, or http on loopback; without user and password
	Username     string
	PasswordFile string // set with Username, and only then
}

// check refuses a block that could issue nothing: it would be found out when somebody waits for a certificate.
func (a *ACME) check(v value) {
	if !v.has("acme") {
		return
	}
	for _, needed := range [][2]string{
		{"cas", "the certificate authorities, as in [{name: letsencrypt, directory: https://acme-v02.api.letsencrypt.org/directory}]"},
		{"agree_to_terms", "true, once you have read the terms of service of the authorities"},
		{"hosts", "the zone of the databases' public names, as in {zone: pg.example.com}"},
		{"dns", "how their names are proved: rfc2136, webhook, exec or persist"},
	} {
		if !v.has("acme."+needed[0]) && !v.faulty("acme."+needed[0]) {
			v.at("acme").refuseHidden("has no "+needed[0], "add "+needed[0]+": and "+needed[1])
		}
	}
	if v.has("acme.agree_to_terms") && !a.AgreeToTerms && !v.faulty("acme.agree_to_terms") {
		v.at("acme.agree_to_terms").refuseHidden("is false, and no authority issues anything without it", "read their terms of service and write true, or remove acme")
	}
	if v.has("acme.hosts") && !v.has("acme.hosts.zone") {
		v.at("acme.hosts").refuseHidden("has no zone", "add zone: and the zone of the databases' public names, as in pg.example.com")
	}
	for i, ca := range a.CAs {
		if ca.Name != "" && slices.ContainsFunc(a.CAs[:i], func(other ACMECA) bool { return other.Name == ca.Name }) {
			v.at(fmt.Sprintf("acme.cas[%d].name", i)).refuseHidden("is "+shown(ca.Name)+" again", "give each authority its own name")
		}
	}
	a.DNS.check(v)
}

func (d *ACMEDNS) check(v value) {
	if !v.has("acme.dns") {
		return
	}
	ways := []string{"rfc2136", "webhook", "exec", "persist"}
	var written []string
	for _, way := range ways {
		if v.has("acme.dns." + way) {
			written = append(written, way)
		}
	}
	switch {
	case len(written) == 0 && !v.faulty("acme.dns"):
		v.at("acme.dns").refuseHidden("has no way to prove a name", "add one of rfc2136, webhook, exec and persist")
	case len(written) > 1:
		v.at("acme.dns."+written[1]).refuseHidden("is beside "+written[0], "keep one of "+strings.Join(written, ", "))
	}
	if v.has("acme.dns.persist") && !d.Persist && !v.faulty("acme.dns.persist") {
		v.at("acme.dns.persist").refuseHidden("is false", "write true, or one of rfc2136, webhook and exec in its place")
	}
	if v.has("acme.dns.rfc2136") && !v.faulty("acme.dns.rfc2136") {
		for _, needed := range [][2]string{{"server", "the zone's primary name server, as in 192.0.2.53:53"}, {"zone", "the zone that it may change"}, {"key_file", "the file with the key, as tsig-keygen writes it"}} {
			if !v.has("acme.dns.rfc2136." + needed[0]) {
				v.at("acme.dns.rfc2136").refuseHidden("has no "+needed[0], "add "+needed[0]+": and "+needed[1])
			}
		}
	}
	if v.has("acme.dns.webhook") && !v.has("acme.dns.webhook.url") && !v.faulty("acme.dns.webhook") {
		v.at("acme.dns.webhook").refuseHidden("has no url", "add url: and the URL of the server, as in https://dns.example.com/acme")
	}
	v.both(pair{"acme.dns.webhook.username", "acme.dns.webhook.password_file", "the user of the server", "the file with its password"})
}

// acmeCAAt checks what belongs together in an authority.
func acmeCAAt(v value, ca *ACMECA) {
	if v.kind != mapping {
		return
	}
	v.both(pair{v.path + ".eab.key_id", v.path + ".eab.key_file", "the key id that the authority gave", "the file with its MAC key"})
	for _, limit := range []struct {
		key string
		of  ACMELimit
	}{{"new_orders", ca.NewOrders}, {"certificates", ca.Certificates}} {
		if every := v.path + "." + limit.key + ".every"; limit.of.Burst == 0 && v.has(every) && !v.faulty(v.path+"."+limit.key) {
			v.at(every).refuseHidden("has no effect with a burst of 0, which is no limit", "remove it, or write a burst")
		}
	}
}

// asDirectoryURL reads the URL of an ACME directory.
func (v value) asDirectoryURL() string {
	text, ok := v.asText(textRule{1, 512, true})
	if !ok {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http", u.Fragment != "":
		v.refuse(complaint{"is not the URL of an ACME directory", "write it as in https://acme-v02.api.letsencrypt.org/directory"})
	case u.User != nil:
		v.refuseHidden("has a user in it", "remove it: the account's key authenticates, and eab binds it to an account of yours")
	case u.Scheme == "http":
		v.refuse(complaint{"is not encrypted", "write https://, with trust_file for an authority of your own"})
	default:
		return text
	}
	return ""
}

// asZone reads a DNS zone in lower case, without a final dot.
func (v value) asZone() string {
	text, ok := v.asText(textRule{1, 230, true})
	if !ok {
		return ""
	}
	zone := strings.ToLower(strings.TrimSuffix(text, "."))
	if !isHostname(zone) || strings.Contains(zone, "_") || !strings.Contains(zone, ".") {
		v.refuse(complaint{"is not a zone", "write the domain below which the names are, as in pg.example.com"})
		return ""
	}
	return zone
}

// asNameServer reads host and port of a name server.
func (v value) asNameServer() (string, bool) {
	text, ok := v.asText(textRule{1, 260, true})
	if !ok {
		return "", false
	}
	if ap, err := netip.ParseAddrPort(text); err == nil && ap.Port() != 0 {
		return ap.String(), true
	}
	if _, err := netip.ParseAddr(text); err == nil {
		v.refuse(complaint{"has no port", "write " + netip.AddrPortFrom(netip.MustParseAddr(text), 53).String()})
		return "", false
	}
	switch host, port, hasPort := cutPort(text); {
	case isHostname(host) && hasPort && isPort(port):
		return text, true
	case isHostname(text):
		v.refuse(complaint{"has no port", "write " + shown(text) + ":53"})
	default:
		v.refuse(complaint{"is not the address of a name server", "write it as in 192.0.2.53:53"})
	}
	return "", false
}

// asWebhookOfDNS reads a URL that may be shown: it has no secret in it.
func (v value) asWebhookOfDNS() string {
	text, ok := v.asText(textRule{1, 512, true})
	if !ok {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https", u.RawQuery != "", u.Fragment != "":
		v.refuse(complaint{"is not a URL", "write it as in https://dns.example.com/acme"})
	case u.User != nil:
		v.refuseHidden("has a user in it", "put the user in username, and the name of the file with the password in password_file")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		v.refuse(complaint{"is not encrypted, and not on this machine", "write https://"})
	default:
		return text
	}
	return ""
}

// asFingerprint reads a SHA-256 in hexadecimal, with or without colons.
func (v value) asFingerprint() string {
	text, ok := v.asText(textRule{1, 128, true})
	if !ok {
		return ""
	}
	digest := strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
		v.refuse(complaint{"is not a SHA-256", "write 64 hexadecimal digits, as openssl x509 -noout -fingerprint -sha256 shows them"})
		return ""
	}
	return digest
}
