package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"pgmtls-proxy/internal/pemkey"
)

// maxChain bounds how many certificates a CA from outside may come with. Real ones have two or three.
const maxChain = 8

// maxKeyID bounds the subject key identifier, in bytes: it becomes part of names. RFC 7093 makes 20, some CAs 32.
const maxKeyID = 64

// ParseCA takes over a CA: one from outside, which may be an intermediate, or one that was kept. certPEM has the CA's
// own certificate first, then what is above it, in order; whether the root comes with it is free. keyPEM is the
// private key of the first one, not encrypted: PKCS #8, PKCS #1 or SEC 1.
//
// The error says what to do. Whether the CA has ended is not asked, since a CA that was kept outlives its use: see
// [CA.CheckValid].
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	chain, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificate: %w", err)
	}
	if len(chain) > maxChain {
		return nil, fmt.Errorf("the CA's certificate comes with a chain of %d certificates; include the CA and the CAs above it, at most %d", len(chain), maxChain)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	if err := matchCA(key, chain); err != nil {
		return nil, err
	}
	for i, cert := range chain {
		if err := checkCA(cert); err != nil {
			return nil, fmt.Errorf("CA certificate %d, %s: %w", i+1, subject(cert), err)
		}
		// Nobody relies on the signature of a root above; the proxy looks at that of every CA it is given.
		if (i == 0 || !selfSigned(cert)) && !strong(cert.SignatureAlgorithm) {
			return nil, fmt.Errorf("CA certificate %d, %s: it is signed with %v, which is not accepted; issue it again with SHA-256", i+1, subject(cert), cert.SignatureAlgorithm)
		}
	}
	if err := checkSigner(chain[0]); err != nil {
		return nil, fmt.Errorf("CA certificate 1, %s: %w", subject(chain[0]), err)
	}
	if err := checkOrder(chain); err != nil {
		return nil, err
	}
	kept, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &CA{chain: chain, key: key, keyPEM: kept}, nil
}

// matchCA requires that the key is that of the first certificate.
func matchCA(key crypto.Signer, chain []*x509.Certificate) error {
	at := slices.IndexFunc(chain, func(cert *x509.Certificate) bool { return pemkey.Belongs(key, cert.PublicKey) })
	switch {
	case at < 0:
		return fmt.Errorf("the key does not belong to the CA certificate %s; use the key that the certificate was issued for", subject(chain[0]))
	case at > 0:
		return fmt.Errorf("the key belongs to CA certificate %d, %s; put that one first, then its issuer", at+1, subject(chain[at]))
	}
	return nil
}

// checkCA asks of every certificate of a chain what verifiers will ask.
func checkCA(cert *x509.Certificate) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return errors.New("it is not a CA certificate; issue it with the extension basicConstraints=critical,CA:TRUE")
	}
	if cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("it may not sign certificates; issue it with the extension keyUsage=critical,keyCertSign,cRLSign")
	}
	if err := checkKey(cert.PublicKey); err != nil {
		return fmt.Errorf("%w; a CA with such a key can't be used", err)
	}
	// An extended key usage in a CA narrows what may be below it: not in RFC 5280, but Go, OpenSSL and Java all do so.
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) > 0 && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) &&
		!(slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth)) {
		return errors.New("its extended key usage does not allow both clientAuth and serverAuth below it; issue it without, or with both")
	}
	return nil
}

// checkSigner asks of the CA itself what its revocation lists need.
func checkSigner(cert *x509.Certificate) error {
	switch {
	case cert.KeyUsage&x509.KeyUsageCRLSign == 0:
		return errors.New("it may not sign revocation lists, which are needed to revoke certificates; issue it with the extension keyUsage=critical,keyCertSign,cRLSign")
	case len(cert.SubjectKeyId) == 0:
		return errors.New("it has no subject key identifier, which revocation lists need to identify their CA; issue it with the extension subjectKeyIdentifier=hash")
	case len(cert.SubjectKeyId) > maxKeyID:
		return fmt.Errorf("its subject key identifier has %d bytes; issue it with the extension subjectKeyIdentifier=hash", len(cert.SubjectKeyId))
	case len(cert.RawSubject) <= 2: // an empty sequence
		return errors.New("its subject is empty, and a CA needs a name (RFC 5280 section 4.1.2.6); issue it with one")
	}
	return nil
}

// checkOrder requires that every certificate was issued by the next.
func checkOrder(chain []*x509.Certificate) error {
	for i, above := range chain[1:] {
		below := chain[i]
		if bytes.Equal(below.RawIssuer, above.RawSubject) && !selfSigned(below) && below.CheckSignatureFrom(above) == nil {
			continue
		}
		return fmt.Errorf("CA certificate %d, %s, did not issue CA certificate %d, %s; put the CA first, then its issuer, then the issuer's issuer",
			i+2, subject(above), i+1, subject(below))
	}
	return nil
}

// strong reports whether a signature is over a hash that can't be forged.
func strong(algorithm x509.SignatureAlgorithm) bool {
	switch algorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return true
	}
	return false
}

// subject names a certificate in errors.
func subject(cert *x509.Certificate) string { return fmt.Sprintf("%q", clean(cert.Subject.String())) }
