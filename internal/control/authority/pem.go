package authority

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"pgmtls-proxy/internal/pemkey"
	"pgmtls-proxy/internal/safetext"
)

// maxText bounds what is read as PEM or DER, in bytes. A chain of eight certificates has some 20 kB.
const maxText = 256 << 10

// maxShown bounds foreign text in errors, in bytes.
const maxShown = 200

// readPEM returns all blocks of the text, or an error if there is anything that may once have been one: encoding/pem
// skips what it can't read, so that a damaged first certificate would make the second one the CA.
func readPEM(text []byte) ([]*pem.Block, error) {
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("it is empty")
	case len(text) > maxText:
		return nil, fmt.Errorf("it has %d bytes, more than the maximum of %d", len(text), maxText)
	}
	text = safetext.WithoutMark(text)
	if bytes.Contains(text, []byte("----------BEGIN ")) {
		return nil, errors.New("two PEM blocks are in one line: files were joined without a line break; put one between -----END …----- and -----BEGIN")
	}
	var blocks []*pem.Block
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if bytes.Count(text[:len(text)-len(rest)], []byte("-----BEGIN ")) != 1 {
			return nil, fmt.Errorf("PEM block %d is damaged; copy the file again", len(blocks)+1)
		}
		blocks, text = append(blocks, block), rest
	}
	switch {
	case bytes.Contains(text, []byte("-----")):
		return nil, fmt.Errorf("PEM block %d is damaged or truncated; copy the file again", len(blocks)+1)
	case len(blocks) == 0:
		return nil, errors.New("it is not PEM; convert a DER file with openssl x509, req or pkey -inform DER -in FILE -out FILE.pem")
	}
	return blocks, nil
}

// parseCertificates reads one certificate or more, and nothing else.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for i, block := range blocks {
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, errors.New("there is a private key where certificates are expected; put keys and certificates into separate files")
		case strings.HasSuffix(block.Type, "CERTIFICATE REQUEST"):
			return nil, errors.New("there is a certificate request where certificates are expected; a CA must sign it first")
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("PEM block %d is a %q where a CERTIFICATE is expected", i+1, clean(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d can't be read (%s): %s", i+1, clean(err.Error()), pemkey.Remedy(block.Bytes, err))
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// ClientChain returns what a client presents of its certificate and the intermediates above it: the certificate and the CA that
// issued it, if that is an intermediate. The proxies have that CA, and name in their handshakes the one that issued it.
// pgjdbc sends nothing unless the issuer of the last certificate in its file is named, which what is further up is not.
func ClientChain(certificatePEM []byte) ([]byte, error) {
	certs, err := parseCertificates(certificatePEM)
	if err != nil {
		return nil, err
	}
	return encodeCertificates(certs[:min(len(certs), 2)]), nil
}

// clean makes foreign text fit to be shown: one line, bounded, nothing that a terminal would act on.
func clean(text string) string {
	return safetext.Truncate(safetext.Replace(text, '?', ""), maxShown)
}
