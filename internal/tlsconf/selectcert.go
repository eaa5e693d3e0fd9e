package tlsconf

import (
	"crypto/ecdsa"
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
)

// maxServerName bounds the names that are looked up: no DNS name is longer (RFC 1035 section 2.3.4).
const maxServerName = 255

// certSelector picks a server certificate by name and by the client's algorithms. It is immutable.
type certSelector struct {
	exact     map[string][]*tls.Certificate
	wildcards map[string][]*tls.Certificate // by what follows "*."
	fallback  []*tls.Certificate
}

func newCertSelector(certs []*Certificate, preferred int) *certSelector {
	c := &certSelector{exact: map[string][]*tls.Certificate{}, wildcards: map[string][]*tls.Certificate{}}
	if preferred < 0 || preferred >= len(certs) {
		preferred = 0
	}
	for i, cert := range certs {
		for _, name := range cert.names {
			if below, ok := strings.CutPrefix(name, "*."); ok {
				c.wildcards[below] = append(c.wildcards[below], &cert.tls)
			} else if _, err := netip.ParseAddr(name); err != nil {
				c.exact[name] = append(c.exact[name], &cert.tls)
			}
		}
		if i == preferred || shareName(cert, certs[preferred]) {
			c.fallback = append(c.fallback, &cert.tls)
		}
	}
	for _, list := range c.exact {
		cheapFirst(list, nil)
	}
	for _, list := range c.wildcards {
		cheapFirst(list, nil)
	}
	if len(certs) > 0 {
		cheapFirst(c.fallback, &certs[preferred].tls)
	}
	return c
}

func shareName(a, b *Certificate) bool {
	return slices.ContainsFunc(a.names, func(name string) bool { return slices.Contains(b.names, name) })
}

// cheapFirst orders certificates of one name: ECDSA before RSA, and among equals the preferred one and then the one
// that was configured first.
func cheapFirst(list []*tls.Certificate, preferred *tls.Certificate) {
	rank := func(cert *tls.Certificate) int {
		r := 2
		if _, ok := cert.Leaf.PublicKey.(*ecdsa.PublicKey); ok {
			r = 0
		}
		if cert != preferred {
			r++
		}
		return r
	}
	slices.SortStableFunc(list, func(a, b *tls.Certificate) int { return rank(a) - rank(b) })
}

// certificate is a tls.Config's GetCertificate.
func (c *certSelector) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	candidates := c.candidates(hello.ServerName)
	if len(candidates) == 0 {
		return nil, errNoCertificate
	}
	if len(candidates) == 1 {
		return candidates[0], nil // if the client's algorithms don't allow it, the handshake says so
	}
	anyName := *hello
	anyName.ServerName = "" // SupportsCertificate would refuse the default certificate for an unknown name
	for _, cert := range candidates {
		if anyName.SupportsCertificate(cert) == nil {
			return cert, nil
		}
	}
	return candidates[0], nil
}

// candidates returns the certificates for a name, in order of preference.
func (c *certSelector) candidates(name string) []*tls.Certificate {
	if name == "" || len(name) > maxServerName {
		return c.fallback
	}
	name = strings.ToLower(name)
	if found := c.exact[name]; found != nil {
		return found
	}
	if label, below, ok := strings.Cut(name, "."); ok && label != "" {
		if found := c.wildcards[below]; found != nil {
			return found
		}
	}
	return c.fallback
}
