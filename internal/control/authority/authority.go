// Package authority is the X.509 of the control plane: it makes or takes over a certificate authority, issues client
// and server certificates with it, signs its revocation lists, and writes keys in the forms that clients read.
//
// It is functions and values: it keeps nothing, knows no database and has no clock, since every time is given to it.
// Who gets a certificate, until when, and where keys are kept is decided above it, in registry and access. It never sees
// a connection: the proxy judges what is issued here by itself, from files.
//
// The rules are those of RFC 5280, and narrower where clients of PostgreSQL need it. Every certificate is checked
// against the chain of its authority before it is handed out, so that nothing leaves that its users would refuse.
package authority

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// CA is a certificate authority: its certificate, what is above it, and its private key. It is immutable and safe for
// concurrent use. Printing one shows its name and id, never its key.
type CA struct {
	chain  []*x509.Certificate // the CA's own, then what is above it, each issued by the next
	key    crypto.Signer
	keyPEM []byte
}

// Subject names a CA. Names are printable and have 64 bytes at most (X.520, ub-common-name and
// ub-organization-name).
type Subject struct {
	CommonName   string
	Organization string // empty: none
}

// NewCA makes a self-signed CA with a new ECDSA P-256 key, for the time from notBefore to notAfter, in whole seconds.
// It may issue leaves only (path length 0) and sign revocation lists.
func NewCA(subject Subject, notBefore, notAfter time.Time) (*CA, error) {
	name, err := subject.name()
	if err != nil {
		return nil, err
	}
	if !notBefore.Before(notAfter) {
		return nil, fmt.Errorf("the CA would expire at %s, before it becomes valid; choose a later end", stamp(notAfter))
	}
	key, keyPEM, err := GenerateKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               name,
		NotBefore:             notBefore.UTC(),
		NotAfter:              notAfter.UTC(),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key) // adds the subject key id
	if err != nil {
		return nil, fmt.Errorf("sign the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the CA's new certificate: %w", err)
	}
	return &CA{chain: []*x509.Certificate{cert}, key: key, keyPEM: keyPEM}, nil
}

func (s Subject) name() (pkix.Name, error) {
	if err := checkName("the CA's common name", s.CommonName); err != nil {
		return pkix.Name{}, err
	}
	name := pkix.Name{CommonName: s.CommonName}
	if s.Organization != "" {
		if err := checkName("the CA's organization", s.Organization); err != nil {
			return pkix.Name{}, err
		}
		name.Organization = []string{s.Organization}
	}
	return name, nil
}

// ID is the CA's subject key identifier in hex. It stays the same when the CA's certificate is renewed for its key.
func (ca *CA) ID() string { return hex.EncodeToString(ca.cert().SubjectKeyId) }

// Name is the CA's common name, or its whole subject where it has none. A CA from outside may have any text there.
func (ca *CA) Name() string {
	if name := ca.cert().Subject.CommonName; name != "" {
		return name
	}
	return ca.cert().Subject.String()
}

// Serial is the serial number of the CA's certificate, in the form of [Issued].
func (ca *CA) Serial() string { return formatSerial(ca.cert().SerialNumber) }

// NotBefore is the first moment at which the CA and all that is above it are valid.
func (ca *CA) NotBefore() time.Time {
	return slices.MaxFunc(ca.chain, func(a, b *x509.Certificate) int { return a.NotBefore.Compare(b.NotBefore) }).NotBefore
}

// NotAfter is the last moment at which the CA and all that is above it are valid. Nothing it issues ends later.
func (ca *CA) NotAfter() time.Time {
	return slices.MinFunc(ca.chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}

// CheckValid returns nil if the CA can be used at the time: it and what is above it have begun, and have not ended.
func (ca *CA) CheckValid(at time.Time) error {
	if end := ca.NotAfter(); at.After(end) {
		return fmt.Errorf("the CA %q, or one above it, expired at %s; use a CA that is still valid", clean(ca.Name()), stamp(end))
	}
	if start := ca.NotBefore(); at.Before(start) {
		return fmt.Errorf("the CA %q, or one above it, is not valid before %s; correct this machine's clock, or wait", clean(ca.Name()), stamp(start))
	}
	return nil
}

// CertificatePEM is the CA's own certificate alone: what proxies trust.
func (ca *CA) CertificatePEM() []byte { return encodeCertificates(ca.chain[:1]) }

// ChainPEM is the CA's own certificate and those above it, as they were given: what clients trust, since libpq wants
// the chain up to a root.
func (ca *CA) ChainPEM() []byte { return encodeCertificates(ca.chain) }

// KeyPEM is the CA's private key in PKCS #8, not encrypted. It is the one secret that everything here depends on.
func (ca *CA) KeyPEM() []byte { return bytes.Clone(ca.keyPEM) }

func (ca *CA) String() string { return fmt.Sprintf("CA %q (%s)", clean(ca.Name()), ca.ID()) }

// GoString keeps the key out of %#v.
func (ca *CA) GoString() string { return ca.String() }

func (ca *CA) cert() *x509.Certificate { return ca.chain[0] }

// selfSigned reports whether the certificate names itself, with its own key, as its issuer. Chains leave such a root
// out (RFC 8446 section 4.4.2), since who does not have it already can't trust it.
func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer) &&
		(len(cert.AuthorityKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, cert.SubjectKeyId))
}

func encodeCertificates(certs []*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}

// stamp shows a time in errors.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
