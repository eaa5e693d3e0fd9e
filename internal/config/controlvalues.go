package config

import (
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
)

func (v value) asControlListen() (netip.AddrPort, bool) { return v.asListenOn(9816) }

// asControlName reads a name for a certificate.
func (v value) asControlName() (string, bool) {
	text, ok := v.asText(textRule{1, 253, true})
	if !ok {
		return "", false
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return addr.Unmap().String(), true
	}
	if !isHostname(text) {
		v.refuse(complaint{"is not a name", "write a DNS name without wildcard, such as pgmtls.internal, or an IP address"})
		return "", false
	}
	return strings.TrimSuffix(strings.ToLower(text), "."), true
}

func (v value) asDirectory() (string, bool) { return v.asText(pathRule) }

// asEndpoint reads the URL of a member of etcd, and gives it without a closing slash.
func (v value) asEndpoint() (string, bool) {
	text, ok := v.asText(textRule{1, 512, true})
	if !ok {
		return "", false
	}
	const form = "write it as in https://etcd-1.internal:2379"
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https", u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		v.refuse(complaint{"is not the URL of a member of etcd", form})
	case u.User != nil:
		v.refuseHidden("has a user in it", "put the user in username, and the name of the file with its password in password_file")
	case !isPort(u.Port()):
		v.refuse(complaint{"has no port", form})
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		v.refuse(complaint{"is not encrypted, and not on this machine", "write https://, with ca for the members' own authority"})
	default:
		return u.Scheme + "://" + u.Host, true
	}
	return "", false
}

// asPublicURL reads where other machines reach the API, and returns it without a closing slash.
func (v value) asPublicURL() string {
	text, ok := v.asText(textRule{1, 512, true})
	if !ok {
		return ""
	}
	const form = "write it as in https://pgmtls.example.com:9816"
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Hostname() == "", u.Scheme != "http" && u.Scheme != "https", u.RawQuery != "", u.Fragment != "":
		v.refuse(complaint{"is not the URL of the API", form})
	case u.User != nil:
		v.refuseHidden("has a user in it", "remove it: callers have tokens")
	case u.Path != "" && u.Path != "/":
		v.refuse(complaint{"has a path", "remove it: the API's paths begin at the root"})
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && !isPort(u.Port()):
		v.refuse(complaint{"has a wrong port", form})
	default:
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && !isHostname(u.Hostname()) {
			v.refuse(complaint{"has a name that no certificate can have", form})
			return ""
		}
		return u.Scheme + "://" + strings.ToLower(u.Host)
	}
	return ""
}

// isLoopback reports whether a host means this machine.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func (v value) asPrefix() string {
	text, ok := v.asText(textRule{1, 128, true})
	if ok && (!strings.HasPrefix(text, "/") || !strings.HasSuffix(text, "/") || strings.Trim(text, "/") == "") {
		v.refuse(complaint{"does not start and end with a slash, with something between", "write it as in /pgmtls/"})
		return ""
	}
	return text
}

// asWebhookURL never shows the value: receivers of chat programs have their secret in it.
func (v value) asWebhookURL() string {
	if !v.is(scalar) {
		return ""
	}
	u, err := url.Parse(v.text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https", len(v.text) > 2048:
		v.refuseHidden("is not a URL", "write it as in https://hooks.example.com/pgmtls, at most 2048 bytes")
	case u.User != nil:
		v.refuseHidden("has a user or a password in it", "remove it: the receiver authenticates the sender by the signature")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		v.refuseHidden("is not encrypted, and not on this machine", "write https://")
	default:
		return v.text
	}
	return ""
}

func (v value) asMailServer() string {
	if !v.is(scalar) {
		return ""
	}
	if ap, err := netip.ParseAddrPort(v.text); err == nil && ap.Port() != 0 {
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
	}
	switch host, port, hasPort := cutPort(v.text); {
	case isHostname(host) && hasPort && isPort(port):
		return v.text
	case isHostname(v.text):
		v.refuse(complaint{"has no port", "write " + shown(v.text) + ":587"})
	default:
		v.refuse(complaint{"is not an address", "write it as in mail.example.com:587"})
	}
	return ""
}

func (v value) asMailAddress() (string, bool) {
	text, ok := v.asText(textRule{1, 320, true})
	if !ok {
		return "", false
	}
	if _, err := mail.ParseAddress(text); err != nil {
		v.refuse(complaint{"is not a mail address", "write it as in ops@example.com"})
		return "", false
	}
	return text, true
}
