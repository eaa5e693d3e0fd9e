// Package tlsconf turns certificates, keys, CA bundles and revocation lists into TLS configurations, and judges the
// certificates that clients present.
//
// It works on bytes, not on files: policy reads the files, builds
// everything here once per generation, and session uses the results for every connection. What is built is
// immutable. It knows no database, no user and no address: whether an [Identity] may log in as somebody is the
// policy's question.
//
// Two decisions shape it. The handshake asks for a client certificate and never verifies it: the verdict is
// [ClientVerifier.Verify], after the handshake, so that a refusal is a readable PostgreSQL error inside TLS (an alert of TLS
// 1.3 often loses the race against the connection's end). And Go's own verification is a part of the verdict, not
// the whole: alone it accepts RSA keys of 1024 bits, leaves without a purpose, CA certificates as leaves, and it
// knows nothing of revocation.
package tlsconf

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"pgmtls-proxy/internal/pemkey"
	"pgmtls-proxy/internal/safetext"
)

// maxName bounds a name from a certificate in errors, refusals and logs, in bytes.
const maxName = 128

// FileError is a problem of one input. Errors of this package that concern several inputs are joined FileErrors.
type FileError struct {
	File string // the name that the input was given
	Err  error
}

// Error is the file's name and the problem.
func (e *FileError) Error() string { return e.File + ": " + e.Err.Error() }

// Unwrap returns the problem.
func (e *FileError) Unwrap() error { return e.Err }

// checkKey refuses public keys that are too weak, too costly or of a kind that is not served here.
func checkKey(public any) error {
	if err := pemkey.CheckStrength(public); err != nil {
		return fmt.Errorf("its %w", err)
	}
	return nil
}

// parseKey reads the one private key of a PEM file, of whatever strength: it has to match a certificate, which is
// asked.
func parseKey(text []byte) (crypto.Signer, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	return pemkey.Parse(blocks)
}

// checkSignature refuses signatures over hashes that can be forged.
func checkSignature(algorithm x509.SignatureAlgorithm) error {
	switch algorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return nil
	case x509.UnknownSignatureAlgorithm:
		return errors.New("its signature's algorithm is unknown")
	}
	return fmt.Errorf("it is signed with %v; SHA-256 or stronger is needed", algorithm)
}

// selfSigned reports whether the certificate claims to have issued itself.
func selfSigned(cert *x509.Certificate) bool {
	return string(cert.RawSubject) == string(cert.RawIssuer)
}

// quote shows text that somebody else chose, in quotes.
func quote(text string) string { return `"` + safetext.Escape(text, maxName) + `"` }

// subject names a certificate in quotes: by its subject or, if that is empty, by its first name.
func subject(cert *x509.Certificate) string {
	switch {
	case len(cert.Subject.Names) > 0:
		return quote(cert.Subject.String())
	case len(cert.DNSNames) > 0:
		return quote("DNS:" + cert.DNSNames[0])
	case len(cert.URIs) > 0:
		return quote("URI:" + cert.URIs[0].String())
	}
	return "without a subject"
}

// formatTime shows a time as PostgreSQL's logs do, in UTC.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// oneLine joins the lines of an error that is shown inside a sentence.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
