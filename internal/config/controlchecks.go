package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pair is two keys that go together, and what the fix tells to write for each.
type pair struct{ one, other, oneIs, otherIs string }

// both refuses one key of a pair without the other.
func (v value) both(p pair) {
	name := func(path string) string { return path[strings.LastIndex(path, ".")+1:] }
	switch one, other := v.has(p.one), v.has(p.other); {
	case one && !other:
		v.at(p.one).refuseHidden("is set without "+name(p.other), "add "+name(p.other)+": and "+p.otherIs)
	case other && !one:
		v.at(p.other).refuseHidden("is set without "+name(p.one), "add "+name(p.one)+": and "+p.oneIs)
	}
}

// without refuses keys of a group that are there to no effect.
func (v value) without(group string, keys []string, c complaint) {
	for _, key := range keys {
		if path := group + key; v.has(path) {
			v.at(path).refuseHidden(c.message, c.fix)
		}
	}
}

// atEither is a key, and if it is not in the document, the place of another one that the problem is about too.
func (v value) atEither(path, other string) value {
	out := v.at(path)
	if !v.has(path) && v.has(other) {
		out.node = v.at(other).node
	}
	return out
}

// checkListen settles what the API is served on, and with which certificate.
func (c *Control) checkListen(v value) {
	seen := map[netip.AddrPort]bool{}
	for _, ap := range c.Listen {
		if seen[ap] && ap.Port() != 0 {
			v.at("listen").refuseHidden("has "+ap.String()+" twice", "keep one")
		}
		seen[ap] = true
		if c.PlainHTTP && !ap.Addr().IsLoopback() {
			v.atEither("listen", "plain_http").refuseHidden("has "+ap.String()+", which other machines reach, with plain_http: true",
				"write a loopback address, or remove plain_http")
		}
	}
	if strings.HasPrefix(c.PublicURL, "http:") && !c.PlainHTTP {
		v.at("public_url").refuseHidden("is not encrypted, and the API is", "write https://")
	}
	if c.PlainHTTP {
		v.without("", []string{"names", "tls"}, complaint{"has no effect with plain_http: true", "remove one of the two"})
		return
	}
	v.both(pair{"tls.cert", "tls.key", "the PEM file of its certificate", "the PEM file of its private key"})
	if v.has("tls.cert") {
		v.without("", []string{"names"}, complaint{"has no effect with tls.cert, which has its names in it", "remove one of the two"})
	}
}

// checkDirectories keeps policies out of what the daemon itself keeps.
func (c *Control) checkDirectories(v value) {
	seen := map[string]bool{}
	for _, root := range c.PolicyRoots {
		at := v.at("policy_roots")
		inside, err := filepath.Rel(root, c.DataDir)
		switch {
		case seen[root]:
			at.refuseHidden("has "+shown(root)+" twice", "keep one")
		case root == "/":
			at.refuseHidden("has /, which is every directory", "write the directories of policies")
		case err == nil && c.DataDir != "" && filepath.IsLocal(inside):
			at.refuseHidden("has "+shown(root)+", which contains data_dir", "write a directory of policies only, such as "+shown(filepath.Join(c.DataDir, "policies")))
		}
		seen[root] = true
	}
}

// check settles which of the store's keys go together, so that none is there to no effect.
func (s *Store) check(v value) {
	v.both(pair{"store.cert", "store.key", "the PEM file of its certificate", "the PEM file of its private key"})
	v.both(pair{"store.username", "store.password_file", "the user of etcd", "the file with its password"})
	if v.faulty("store.endpoints") {
		return
	}
	if len(s.Endpoints) == 0 {
		v.without("store.", []string{"ca", "cert", "key", "username", "password_file"},
			complaint{"has no effect without endpoints: no other process can reach the daemon's own etcd", "add endpoints, or remove the key"})
		return
	}
	at := v.at("store.endpoints")
	encrypted := strings.HasPrefix(s.Endpoints[0], "https:")
	for i, e := range s.Endpoints {
		switch {
		case slices.Contains(s.Endpoints[:i], e):
			at.refuseHidden("has "+shown(e)+" twice", "keep one")
		case strings.HasPrefix(e, "https:") != encrypted:
			at.refuseHidden("has http and https", "write https:// for all")
		}
	}
	if !encrypted {
		v.without("store.", []string{"ca", "cert", "key"}, complaint{"has no effect with endpoints of http", "write https:// for the endpoints, or remove the key"})
	}
}

// shortestMonth is February.
const shortestMonth = 28 * day

// checkLifetimes refuses certificates that would be renewed before they are issued. A value that is zero has its own
// problem.
func (c *Control) checkLifetimes(v value) {
	if validity := time.Duration(c.ClientCertificates.ValidityMonths) * shortestMonth; validity > 0 && c.ClientCertificates.RenewBefore >= validity {
		v.checkRenewal("client_certificates.renew_before", "client_certificates.validity_months", lifetimes{c.ClientCertificates.RenewBefore, validity})
	}
	if s := c.ServerCertificates; s.Validity > 0 && s.RenewBefore >= s.Validity {
		v.checkRenewal("server_certificates.renew_before", "server_certificates.validity", lifetimes{s.RenewBefore, s.Validity})
	}
}

type lifetimes struct{ renewBefore, validity time.Duration }

func (v value) checkRenewal(key, validity string, l lifetimes) {
	v.atEither(key, validity).refuseHidden(fmt.Sprintf("is %s, and the certificate lasts %s", inDays(l.renewBefore), inDays(l.validity)),
		"write less, or a longer "+validity[strings.LastIndex(validity, ".")+1:])
}

func (c *Control) checkLimits(v value) {
	if l := c.Limits; l.Burst > 0 && l.Burst < l.RequestsPerSecond {
		v.atEither("limits.burst", "limits.requests_per_second").refuseHidden("is "+strconv.Itoa(l.Burst)+", less than requests_per_second",
			"write "+strconv.Itoa(l.RequestsPerSecond)+" or more")
	}
}

// check refuses a half of a way to tell people, which would be found out when a certificate has ended.
func (n *Notify) check(v value) {
	v.both(pair{"notify.webhook.url", "notify.webhook.secret_file", "the URL to post to", "the file with the signing secrets"})
	v.both(pair{"notify.mail.username", "notify.mail.password_file", "the user of the mail server", "the file with its password"})
	written := func(key string) bool { return v.has("notify.mail." + key) }
	if slices.ContainsFunc([]string{"address", "from", "to", "username", "password_file", "tls"}, written) {
		for _, needed := range [][2]string{{"address", "the mail server, as in mail.example.com:587"}, {"from", "the sender"}, {"to", "the recipients"}} {
			if !written(needed[0]) {
				v.at("notify.mail").refuseHidden("has no "+needed[0], "add "+needed[0]+": and "+needed[1])
			}
		}
	}
	host, _, _ := cutPort(n.Mail.Address)
	if n.Mail.TLS == MailTLSOff && n.Mail.Address != "" && !isLoopback(host) {
		v.at("notify.mail.tls").refuseHidden("is off, and the mail server is not on this machine", "write starttls or tls")
	}
}
