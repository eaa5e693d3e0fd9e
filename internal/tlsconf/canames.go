package tlsconf

import (
	"crypto/x509"
	"fmt"
	"strings"

	"pgmtls-proxy/internal/safetext"
)

// maxCANames bounds the names of CAs in a handshake, in bytes. The field holds 64 KiB, and crypto/tls fails every handshake
// beyond that; Java ends one with a message of more than 32 KiB (jdk.tls.maxHandshakeMessageSize).
const maxCANames = 16 << 10

// caNames returns what the handshake names as welcome: the CAs, and the CAs that issued them. A client file has a certificate
// and often the intermediate that issued it; pgjdbc sends nothing unless the issuer of the last one is named, which is the
// CA above those of client_ca.
//
// Where the names are too many, those of the issuers are left out; where they still are, there are none, which asks for
// any certificate.
func caNames(cas []*x509.Certificate) *x509.CertPool {
	var own, all caNameList
	for _, cert := range cas {
		own.add(cert.RawSubject)
		all.add(cert.RawSubject)
	}
	for _, cert := range cas {
		all.add(cert.RawIssuer)
	}
	switch {
	case all.size <= maxCANames:
		return all.pool()
	case own.size <= maxCANames:
		return own.pool()
	}
	return nil
}

// caNameList is a list of encoded names without duplicates.
type caNameList struct {
	names [][]byte
	known map[string]bool
	size  int // in the handshake, in bytes
}

func (l *caNameList) add(name []byte) {
	if l.known[string(name)] {
		return
	}
	if l.known == nil {
		l.known = map[string]bool{}
	}
	l.known[string(name)] = true
	l.names = append(l.names, name)
	l.size += 2 + len(name) // its length comes first
}

// pool returns the names in the form that crypto/tls takes them in: certificates, of which it only reads the subjects, since it is
// not asked to verify.
func (l *caNameList) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, name := range l.names {
		pool.AddCert(&x509.Certificate{Raw: name, RawSubject: name})
	}
	return pool
}

// maxShownCAs bounds the CAs in a hint. A client seldom has the certificate of another one than the first or second.
const maxShownCAs = 3

// noCertificateHint helps a client that sent no certificate. Many have one: a driver holds it back if the CA that issued it
// is not asked for, or if TLS can't use its key, and says nothing about that.
func noCertificateHint(issuers []*issuer) string {
	var names []string
	for _, known := range issuers[:min(len(issuers), maxShownCAs)] {
		names = append(names, `"`+safetext.Truncate(known.name, maxName)+`"`)
	}
	switch left := len(issuers) - len(names); {
	case left == 1:
		names = append(names, "one other CA")
	case left > 1:
		names = append(names, fmt.Sprintf("one of %d other CAs", left))
	}
	list := names[len(names)-1]
	if above := names[:len(names)-1]; len(above) > 0 {
		list = strings.Join(above, ", ") + " or " + list
	}
	return "Set sslcert and sslkey to a client certificate of this database and its key. If they are set, the file does not exist, or the client held the certificate back: " +
		"it has to be issued by " + list + ", and its key can't be RSA-PSS or secp256k1."
}
