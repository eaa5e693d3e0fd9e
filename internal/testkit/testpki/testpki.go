// Package testpki is a throwaway certificate authority for tests and benchmarks.
//
// It makes good certificates in one line and, on purpose, every kind of bad one: weak keys, no purpose, expired,
// signed with SHA-1, a CA certificate as a leaf, a leaf that issues another leaf. It is not the authority of the
// control plane: nothing here keeps state, numbers serials or protects a key, and no program may
// import it. Private keys are PKCS #8 in PEM.
//
// [Client] and [Server] give templates that the proxy accepts; everything else starts from a bare [Template], whose
// zero values mean that the certificate has no such extension.
package testpki

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// Template specifies what a certificate holds. An extension stands in it only if its field is set.
type Template struct {
	CommonName string
	// DNSNames are host names or, for [CA.Issue] alone, "*.example.com".
	DNSNames []string
	URIs     []string
	IPs      []netip.Addr

	NotBefore time.Time // zero: an hour ago
	NotAfter  time.Time // zero: in 24 hours

	KeyUsage    x509.KeyUsage
	ExtKeyUsage []x509.ExtKeyUsage

	Key    Key           // the kind of key to make; zero is P-256
	Signer crypto.Signer // a key made before, instead of Key

	IsCA bool
	// PathLen is the path length of a CA: nil for none.
	PathLen *int
	// PermittedDNS and ExcludedDNS are the name constraints of a CA.
	PermittedDNS, ExcludedDNS []string
	PermittedURI              []string // domains
	ExcludedIPs               []netip.Prefix

	Serial *big.Int // nil: 127 random bits
	// Signature is the algorithm to sign with; zero is Go's choice for the issuer's key.
	Signature x509.SignatureAlgorithm
	// Extra are extensions that are copied as they are.
	Extra []pkix.Extension
}

// Client is the template of a good client certificate.
func Client(commonName string) Template {
	return Template{
		CommonName:  commonName,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// Server is the template of a good server certificate for the names, which may be host names, wildcards and IP
// addresses. The first is the common name as well.
func Server(names ...string) Template {
	t := Template{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for i, name := range names {
		if i == 0 {
			t.CommonName = name
		}
		if addr, err := netip.ParseAddr(name); err == nil {
			t.IPs = append(t.IPs, addr)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t
}

// Authority is the template of a good CA certificate.
func Authority(commonName string) Template {
	return Template{CommonName: commonName, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

// Pair is a certificate and its key.
type Pair struct {
	Cert  *x509.Certificate
	Chain []*x509.Certificate // Cert and the intermediates above it, without the root
	Key   crypto.Signer

	CertPEM []byte // Chain
	KeyPEM  []byte // PKCS #8
}

// TLS is the pair as crypto/tls takes it, with its chain.
func (p *Pair) TLS() tls.Certificate {
	c := tls.Certificate{PrivateKey: p.Key, Leaf: p.Cert}
	for _, cert := range p.Chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// Issuer lets the pair issue certificates, whether or not its certificate allows that.
func (p *Pair) Issuer() *CA { return &CA{Cert: p.Cert, Key: p.Key, above: p.Chain} }

// CA issues certificates. Its methods may be called concurrently.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer

	above []*x509.Certificate // Cert and its intermediates; empty for a root, which chains leave out
}

// NewCA makes a self-signed CA. See [Authority] for a good template.
func NewCA(t Template) (*CA, error) {
	key, err := t.key()
	if err != nil {
		return nil, err
	}
	cert, err := sign(t, key.Public(), &CA{Key: key})
	if err != nil {
		return nil, err
	}
	return &CA{Cert: cert, Key: key}, nil
}

// Issue makes a key and a certificate of the CA for it.
func (ca *CA) Issue(t Template) (*Pair, error) {
	key, err := t.key()
	if err != nil {
		return nil, err
	}
	cert, err := sign(t, key.Public(), ca)
	if err != nil {
		return nil, err
	}
	return newPair(cert, key, ca)
}

// Intermediate issues a CA certificate below the CA. What it issues carries it in the chain.
func (ca *CA) Intermediate(t Template) (*CA, error) {
	pair, err := ca.Issue(t)
	if err != nil {
		return nil, err
	}
	return pair.Issuer(), nil
}

// PEM is the CA's own certificate.
func (ca *CA) PEM() []byte { return CertPEM(ca.Cert) }

// Pair is the CA's own certificate with its key, to present it or to write it to a file.
func (ca *CA) Pair() (*Pair, error) {
	p, err := newPair(ca.Cert, ca.Key, &CA{})
	if err == nil && len(ca.above) > 0 {
		p.Chain, p.CertPEM = ca.above, CertPEM(ca.above...)
	}
	return p, err
}

// Pool holds the CA's certificate alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// CertPEM encodes certificates one after the other.
func CertPEM(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}

func newPair(cert *x509.Certificate, key crypto.Signer, issuer *CA) (*Pair, error) {
	keyPEM, err := KeyPEM(key)
	if err != nil {
		return nil, err
	}
	chain := append([]*x509.Certificate{cert}, issuer.above...)
	return &Pair{Cert: cert, Chain: chain, Key: key, CertPEM: CertPEM(chain...), KeyPEM: keyPEM}, nil
}

// sign makes the certificate. An issuer without a certificate signs its own.
func sign(t Template, public crypto.PublicKey, issuer *CA) (*x509.Certificate, error) {
	cert, err := t.certificate()
	if err != nil {
		return nil, err
	}
	parent := issuer.Cert
	if parent == nil {
		parent = cert
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, public, issuer.Key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %q: %w", t.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func (t *Template) certificate() (*x509.Certificate, error) {
	now := time.Now()
	cert := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: t.CommonName},
		DNSNames:                    t.DNSNames,
		NotBefore:                   t.NotBefore,
		NotAfter:                    t.NotAfter,
		KeyUsage:                    t.KeyUsage,
		ExtKeyUsage:                 t.ExtKeyUsage,
		BasicConstraintsValid:       t.IsCA,
		IsCA:                        t.IsCA,
		PermittedDNSDomains:         t.PermittedDNS,
		ExcludedDNSDomains:          t.ExcludedDNS,
		PermittedURIDomains:         t.PermittedURI,
		PermittedDNSDomainsCritical: len(t.PermittedDNS)+len(t.ExcludedDNS)+len(t.PermittedURI)+len(t.ExcludedIPs) > 0,
		SerialNumber:                t.Serial,
		SignatureAlgorithm:          t.Signature,
		ExtraExtensions:             t.Extra,
	}
	if cert.NotBefore.IsZero() {
		cert.NotBefore = now.Add(-time.Hour)
	}
	if cert.NotAfter.IsZero() {
		cert.NotAfter = now.Add(24 * time.Hour)
	}
	if cert.SerialNumber == nil {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil {
			return nil, err
		}
		cert.SerialNumber = serial.Add(serial, big.NewInt(1))
	}
	if t.PathLen != nil {
		cert.MaxPathLen, cert.MaxPathLenZero = *t.PathLen, *t.PathLen == 0
	}
	for _, prefix := range t.ExcludedIPs {
		bits := prefix.Addr().BitLen()
		cert.ExcludedIPRanges = append(cert.ExcludedIPRanges, &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), bits)})
	}
	for _, addr := range t.IPs {
		cert.IPAddresses = append(cert.IPAddresses, net.IP(addr.AsSlice()))
	}
	for _, text := range t.URIs {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("template of %q: %w", t.CommonName, err)
		}
		cert.URIs = append(cert.URIs, uri)
	}
	return cert, nil
}
