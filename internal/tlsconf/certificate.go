package tlsconf

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/pemkey"
	"pgmtls-proxy/internal/safetext"
)

// Certificate is a server's certificate with its chain and its private key. It is immutable and safe for concurrent
// use.
type Certificate struct {
	Leaf  *x509.Certificate
	Chain []*x509.Certificate // Leaf first, as it is served

	tls   tls.Certificate
	names []string
}

// The names of the two inputs of a pair in a [FileError].
const (
	CertificateFile = "certificate"
	KeyFile         = "key"
)

// ParseServerCertificate reads a certificate with its chain, leaf first, and its private key, both in PEM.
//
// The error joins [FileError]s that name [CertificateFile] or [KeyFile] and say what to do. An expired certificate, or
// one that is not valid yet, is not an error: whether to serve it is the policy's decision.
func ParseServerCertificate(certPEM, keyPEM []byte) (*Certificate, error) {
	c, err := parsePair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	if err := checkServerLeaf(c.Leaf); err != nil {
		return nil, &FileError{CertificateFile, err}
	}
	c.names = serverNames(c.Leaf)
	return c, nil
}

// parsePair reads what server and client pairs have in common.
func parsePair(certPEM, keyPEM []byte) (*Certificate, error) {
	chain, certErr := parseChain(certPEM)
	if certErr != nil {
		certErr = &FileError{CertificateFile, certErr}
	}
	key, keyErr := parseKey(keyPEM)
	if keyErr != nil {
		keyErr = &FileError{KeyFile, keyErr}
	}
	if certErr != nil || keyErr != nil {
		return nil, errors.Join(certErr, keyErr)
	}
	if err := matchKey(key, chain); err != nil {
		return nil, err
	}
	if err := checkOrder(chain); err != nil {
		return nil, &FileError{CertificateFile, err}
	}
	c := &Certificate{Leaf: chain[0], Chain: chain, tls: tls.Certificate{PrivateKey: key, Leaf: chain[0]}}
	for _, cert := range chain {
		c.tls.Certificate = append(c.tls.Certificate, cert.Raw)
	}
	return c, nil
}

// Names are the names that clients can ask for, in lower case: the certificate's DNS names and IP addresses or, if it
// has none of either, its common name, as libpq falls back on it.
func (c *Certificate) Names() []string { return slices.Clone(c.names) }

// Serial is the leaf's serial number, as [FormatSerial] writes it.
func (c *Certificate) Serial() string { return FormatSerial(c.Leaf.SerialNumber) }

// NotAfter is the last moment at which the certificate is valid. Its chain may end earlier.
func (c *Certificate) NotAfter() time.Time { return c.Leaf.NotAfter }

// NotBefore is the first moment at which the certificate is valid. Its chain may begin later.
func (c *Certificate) NotBefore() time.Time { return c.Leaf.NotBefore }

// ParseCertificates reads a file of certificates and nothing else. What they are good for is not asked.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	certs := make([]*x509.Certificate, 0, len(blocks))
	for i, block := range blocks {
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, errors.New("there is a private key where certificates are expected; keep it in a separate file that only the proxy may read")
		case block.Type == "CERTIFICATE REQUEST" || block.Type == "NEW CERTIFICATE REQUEST":
			return nil, errors.New("there is a certificate request where certificates are expected; the CA has to sign it first")
		case block.Type == "X509 CRL":
			return nil, errors.New("there is a revocation list where certificates are expected; it belongs in client_crl")
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("PEM block %d has the type %s where a CERTIFICATE is expected; openssl x509 -in FILE -out FILE.pem rewrites it", i+1, quote(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d can't be read (%s): %s", i+1, safetext.Escape(oneLine(err), maxName), pemkey.Remedy(block.Bytes, err))
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// parseChain reads a leaf and its chain. Their order is checked later, when the key can tell which one is the leaf.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	chain, err := ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	for i, cert := range chain {
		if pemkey.IsRSAPSS(typeOf(cert)) && i == 0 {
			return nil, pemkey.ErrRSAPSS
		}
		if err := checkKey(cert.PublicKey); err != nil {
			return nil, fmt.Errorf("certificate %d, %s: %w; issue it again for a new key", i+1, subject(cert), err)
		}
		if selfSigned(cert) {
			continue // nobody relies on the signature of a root
		}
		if err := checkSignature(cert.SignatureAlgorithm); err != nil {
			return nil, fmt.Errorf("certificate %d, %s: %w", i+1, subject(cert), err)
		}
	}
	return chain, nil
}

// typeOf returns the algorithm of the certificate's key, also where crypto/x509 does not know it.
func typeOf(cert *x509.Certificate) asn1.ObjectIdentifier {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil
	}
	return info.Algorithm.Algorithm
}

// matchKey requires that the key belongs to the first certificate.
func matchKey(key crypto.Signer, chain []*x509.Certificate) error {
	for i, cert := range chain {
		if !pemkey.Belongs(key, cert.PublicKey) {
			continue
		}
		if i > 0 {
			return &FileError{CertificateFile, fmt.Errorf("the key belongs to certificate %d, %s; put that one first", i+1, subject(cert))}
		}
		return nil
	}
	return &FileError{KeyFile, fmt.Errorf("the key does not belong to the certificate %s; use the key that the certificate was issued for", subject(chain[0]))}
}

// checkOrder requires that every certificate was issued by the next, as TLS 1.2 sends them (RFC 5246 section 7.4.2) and
// as several clients still need them.
func checkOrder(chain []*x509.Certificate) error {
	for i, cert := range chain[1:] {
		below := chain[i]
		if bytes.Equal(below.RawIssuer, cert.RawSubject) && below.CheckSignatureFrom(cert) == nil {
			continue
		}
		return fmt.Errorf("certificate %d, %s, did not issue certificate %d, %s; put the leaf first, then its issuer, then the issuer's issuer",
			i+2, subject(cert), i+1, subject(below))
	}
	return nil
}

// checkServerLeaf refuses leaves that TLS clients refuse.
func checkServerLeaf(leaf *x509.Certificate) error {
	if _, ok := leaf.PublicKey.(ed25519.PublicKey); ok {
		return errors.New("its key is an Ed25519 key, with which libpq's channel binding (tls-server-end-point) fails; use an ECDSA P-256 or an RSA key")
	}
	if hasKeyUsage(leaf) && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("its key usage lacks digitalSignature, without which it can't serve TLS 1.3; issue it again with digitalSignature")
	}
	purposes := leaf.ExtKeyUsage
	if len(purposes)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(purposes, x509.ExtKeyUsageServerAuth) && !slices.Contains(purposes, x509.ExtKeyUsageAny) {
		return errors.New("it is not for TLS servers: its extended key usage lacks serverAuth; issue it again with serverAuth")
	}
	return nil
}

func serverNames(leaf *x509.Certificate) []string {
	var names []string
	for _, name := range leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 && leaf.Subject.CommonName != "" {
		names = append(names, strings.ToLower(leaf.Subject.CommonName))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
