package authority

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pgmtls-proxy/internal/pemkey"

	"software.sslmate.com/src/go-pkcs12"
)

// p12Iterations are the rounds of key derivation (PBKDF2 with HMAC-SHA-256), for passwords that people choose. The
// library's own number, 2048, stops nobody who guesses.
const p12Iterations = 100_000

// P12 is what a PKCS #12 file is to hold.
type P12 struct {
	CertificatePEM []byte // the certificate, then its intermediates, as from [ClientChain]
	KeyPEM         []byte
	CAPEM          []byte // CAs, of which the roots are put beside them; empty: none
	Password       string // printable ASCII, not empty: Java opens no file with another one
}

// EncodeP12 writes a PKCS #12 file with modern algorithms: PBES2 with AES-256-CBC, and HMAC-SHA-256. The key has the name
// "user", for which pgjdbc looks.
func EncodeP12(p P12) ([]byte, error) {
	if p.Password == "" {
		return nil, errors.New("a PKCS #12 file needs a password")
	}
	if strings.ContainsFunc(p.Password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("the password has characters other than printable ASCII, which Java can't use to open the file; choose another one")
	}
	certs, err := parseCertificates(p.CertificatePEM)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	key, err := parseKey(p.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	if !pemkey.Belongs(key, certs[0].PublicKey) {
		return nil, fmt.Errorf("the key does not belong to the certificate %s; use the key that the certificate was issued for", subject(certs[0]))
	}
	above := certs[1:]
	if len(p.CAPEM) > 0 {
		cas, err := parseCertificates(p.CAPEM)
		if err != nil {
			return nil, fmt.Errorf("the CAs: %w", err)
		}
		for _, ca := range cas {
			if !selfSigned(ca) {
				continue // Java would extend the certificate's chain by it: see ClientChain
			}
			if !slices.ContainsFunc(above, func(known *x509.Certificate) bool { return known.Equal(ca) }) {
				above = append(above, ca)
			}
		}
	}
	file, err := pkcs12.Modern2023.WithIterations(p12Iterations).Encode(key, certs[0], above, p.Password)
	if err != nil {
		return nil, fmt.Errorf("encode the PKCS #12 file: %w", err)
	}
	if file, err = nameKey(file, p12Name, p.Password); err != nil {
		return nil, fmt.Errorf("name the key in the PKCS #12 file: %w", err)
	}
	return file, nil
}
