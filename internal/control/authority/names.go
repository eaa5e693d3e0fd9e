package authority

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName  = 64  // bytes of a common name: X.520, ub-common-name
	maxHost  = 253 // bytes of a DNS name: RFC 1035 section 2.3.4, without the final dot
	maxLabel = 63  // bytes of one of its labels
	maxURI   = 1024
	maxNames = 100 // hosts or URIs of one certificate
)

// checkName requires a printable name of the subject.
func checkName(what, name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return fmt.Errorf("%s is empty", what)
	case len(name) > maxName:
		return fmt.Errorf("%s has %d bytes; use at most %d", what, len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%s %q has unprintable characters; remove them", what, clean(name))
	}
	return nil
}

// parseHosts divides hosts into DNS names, in lower case, and IP addresses. Duplicates are left out.
func parseHosts(hosts []string) (names []string, ips []net.IP, err error) {
	if len(hosts) == 0 {
		return nil, nil, errors.New("a server certificate needs a host; list the names by which clients reach the server")
	}
	if len(hosts) > maxNames {
		return nil, nil, fmt.Errorf("there are %d hosts; use at most %d", len(hosts), maxNames)
	}
	seen := map[string]bool{}
	for _, host := range hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			if addr.Zone() != "" {
				return nil, nil, fmt.Errorf("host %q has a zone, which a certificate can't hold; remove the part that starts with %%", clean(host))
			}
			addr = addr.Unmap()
			if key := addr.String(); !seen[key] {
				seen[key] = true
				ips = append(ips, net.IP(addr.AsSlice()))
			}
			continue
		}
		if err := CheckHost(host); err != nil {
			return nil, nil, err
		}
		if name := strings.ToLower(host); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names, ips, nil
}

// CheckHost returns nil if a server certificate may be issued for the host: a DNS name or an IP address.
func CheckHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		return nil
	}
	switch {
	case host == "":
		return errors.New("a host is empty; use a DNS name or an IP address")
	case len(host) > maxHost:
		return fmt.Errorf("host %q has %d bytes; a DNS name has at most %d", clean(host), len(host), maxHost)
	case strings.HasSuffix(host, "."):
		return fmt.Errorf("host %q ends with a dot; remove the dot", clean(host))
	}
	labels := strings.Split(strings.TrimPrefix(host, "*."), ".")
	for _, label := range labels {
		if !isLabel(label) {
			return fmt.Errorf("host %q is neither a DNS name nor an IP address; use letters, digits, hyphens and dots (names in other scripts as xn--…), and * as its first label only", clean(host))
		}
	}
	// What ends with a number is read as an IPv4 address by URL parsers and browsers, or refused.
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("host %q ends with a number but is not an IP address; correct the address", clean(host))
	}
	return nil
}

// isLabel holds a label against RFC 1123 section 2.1.
func isLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(label, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
	})
}

// fitting is the first host that can be a common name, or empty.
func fitting(hosts []string) string {
	for _, host := range hosts {
		if len(host) <= maxName {
			return strings.ToLower(host)
		}
	}
	return ""
}

func parseURIs(texts []string) ([]*url.URL, error) {
	if len(texts) > maxNames {
		return nil, fmt.Errorf("there are %d URIs; use at most %d", len(texts), maxNames)
	}
	var uris []*url.URL
	for _, text := range texts {
		uri, err := url.Parse(text)
		// A URI that is written back in another way would not match the policy that names it.
		if err != nil || len(text) > maxURI || uri.Scheme == "" || uri.String() != text || !isASCII(text) {
			return nil, fmt.Errorf("%q is not a URI that a certificate can hold; use an absolute URI in ASCII of at most %d bytes, such as urn:pgmtls:database:1", clean(text), maxURI)
		}
		uris = append(uris, uri)
	}
	return uris, nil
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}
