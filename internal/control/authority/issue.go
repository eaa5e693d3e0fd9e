package authority

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"
)

// Request specifies what a certificate is to hold. Zero values: none.
type Request struct {
	// CommonName is printable and has 64 bytes at most. A client certificate needs one; a server's is the first of
	// its hosts that fits, when there is none.
	CommonName string
	// URIs are the names of a client certificate that policies refer to: absolute, such as urn:pgmtls:database:….
	// A server certificate has none.
	URIs []string
	// Hosts are the names of a server certificate: DNS names, which may start with the label "*", and IP addresses.
	// A client certificate has none.
	Hosts []string
	// PublicKey is the key to certify: see [ParseRequest] and [GenerateKey].
	PublicKey crypto.PublicKey
	// NotBefore and NotAfter are the first and the last second. Where the CA's own time is shorter, the certificate's
	// is too: see [Issued].
	NotBefore, NotAfter time.Time
}

// Issued is a certificate that was issued.
type Issued struct {
	// Serial is lower-case hex pairs with colons, as policy.yaml has it.
	Serial string
	// CertificatePEM is the certificate, then the intermediates up to, but without, the root.
	CertificatePEM []byte
	// NotBefore and NotAfter are what the certificate has, in UTC.
	NotBefore, NotAfter time.Time
}

// IssueClient issues a certificate for TLS clients, and for nothing else.
func (ca *CA) IssueClient(request Request) (Issued, error) {
	if len(request.Hosts) > 0 {
		return Issued{}, errors.New("a client certificate can't have hosts; put names into its URIs or its common name")
	}
	if err := checkName("the common name", request.CommonName); err != nil {
		return Issued{}, err
	}
	uris, err := parseURIs(request.URIs)
	if err != nil {
		return Issued{}, err
	}
	return ca.issue(request, &x509.Certificate{
		Subject:     pkix.Name{CommonName: request.CommonName},
		URIs:        uris,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// IssueServer issues a certificate for TLS servers of the hosts, and for nothing else.
func (ca *CA) IssueServer(request Request) (Issued, error) {
	if len(request.URIs) > 0 {
		return Issued{}, errors.New("a server certificate can't have URIs; put its names into its hosts")
	}
	if _, ok := request.PublicKey.(ed25519.PublicKey); ok {
		return Issued{}, errors.New("libpq's channel binding (tls-server-end-point) fails if the server's certificate has an Ed25519 key; use an ECDSA P-256 key")
	}
	names, ips, err := parseHosts(request.Hosts)
	if err != nil {
		return Issued{}, err
	}
	commonName := request.CommonName
	if commonName == "" {
		commonName = fitting(request.Hosts)
	} else if err := checkName("the common name", commonName); err != nil {
		return Issued{}, err
	}
	return ca.issue(request, &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		DNSNames:    names,
		IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// issue signs the template for the request's key and time.
func (ca *CA) issue(request Request, template *x509.Certificate) (Issued, error) {
	if err := checkKey(request.PublicKey); err != nil {
		return Issued{}, fmt.Errorf("the key to certify: %w", err)
	}
	notBefore, notAfter, err := ca.within(request)
	if err != nil {
		return Issued{}, err
	}
	template.SerialNumber = newSerial()
	template.NotBefore, template.NotAfter = notBefore, notAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature // all that TLS 1.3 needs, and TLS 1.2 with (EC)DHE
	template.BasicConstraintsValid = true             // and not a CA
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert(), request.PublicKey, ca.key)
	if err != nil {
		return Issued{}, fmt.Errorf("sign the certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return Issued{}, fmt.Errorf("read the new certificate: %w", err)
	}
	if err := ca.verify(leaf); err != nil {
		return Issued{}, err
	}
	chain := []*x509.Certificate{leaf}
	for _, cert := range ca.chain {
		if !selfSigned(cert) {
			chain = append(chain, cert)
		}
	}
	return Issued{formatSerial(leaf.SerialNumber), encodeCertificates(chain), leaf.NotBefore, leaf.NotAfter}, nil
}

// within cuts the requested time to that of the CA and of what is above it, in whole seconds, as certificates have it.
func (ca *CA) within(request Request) (notBefore, notAfter time.Time, err error) {
	notBefore, notAfter = request.NotBefore.UTC().Truncate(time.Second), request.NotAfter.UTC().Truncate(time.Second)
	if !notBefore.Before(notAfter) {
		return notBefore, notAfter, fmt.Errorf("the certificate would expire at %s, before it becomes valid; choose a later end", stamp(notAfter))
	}
	if start := ca.NotBefore(); notBefore.Before(start) {
		notBefore = start
	}
	if end := ca.NotAfter(); notAfter.After(end) {
		notAfter = end
	}
	if !notBefore.Before(notAfter) {
		return notBefore, notAfter, &LimitError{fmt.Sprintf("the CA %q is valid from %s to %s, which does not cover the certificate; rotate the CA first",
			clean(ca.Name()), stamp(ca.NotBefore()), stamp(ca.NotAfter()))}
	}
	return notBefore, notAfter, nil
}

// LimitError is a certificate that a CA may not issue: constraints of its own or of the CAs above it forbid it.
type LimitError struct{ reason string }

// Error says what forbids the certificate, and what to do.
func (e *LimitError) Error() string { return e.reason }

// verify holds a new certificate against the chain as its users will: a CA from outside may have a path length or
// name constraints that forbid it.
func (ca *CA) verify(leaf *x509.Certificate) error {
	top := len(ca.chain) - 1
	if err := verifyChain(leaf, ca.chain[:top], ca.chain[top]); err != nil {
		return &LimitError{fmt.Sprintf("the CA %q may not issue such a certificate (%s); request other names, or use a CA without these constraints",
			clean(ca.Name()), clean(err.Error()))}
	}
	return nil
}

// VerifyBelow tells whether a certificate is good for those who trust a CA alone. Both are in PEM, the certificate with its chain. The
// error is a [*LimitError], unless one can't be read.
func VerifyBelow(caPEM, certificatePEM []byte) error {
	ca, err := parseCertificates(caPEM)
	if err != nil {
		return err
	}
	chain, err := parseCertificates(certificatePEM)
	if err != nil {
		return err
	}
	if err := verifyChain(chain[0], chain[1:], ca[0]); err != nil {
		return &LimitError{fmt.Sprintf("the CA %s, which is trusted beside it, is above it and does not allow such a certificate (%s); use a CA that has nothing to do with that one",
			subject(ca[0]), clean(err.Error()))}
	}
	return nil
}

// IssuedBy reports whether a CA issued the certificate of another one, both in PEM.
func IssuedBy(certificatePEM, caPEM []byte) (bool, error) {
	cert, err := parseCertificates(certificatePEM)
	if err != nil {
		return false, err
	}
	ca, err := parseCertificates(caPEM)
	if err != nil {
		return false, err
	}
	return !selfSigned(cert[0]) && bytes.Equal(cert[0].RawIssuer, ca[0].RawSubject) && cert[0].CheckSignatureFrom(ca[0]) == nil, nil
}

func verifyChain(leaf *x509.Certificate, above []*x509.Certificate, root *x509.Certificate) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, cert := range above {
		intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   leaf.NotAfter,
		KeyUsages:     leaf.ExtKeyUsage,
	})
	return err
}
