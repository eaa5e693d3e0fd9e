package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"pgmtls-proxy/internal/safetext"
)

// maxRequest bounds a certificate request, in bytes. One for an RSA key of 4096 bits has some 2 kB.
const maxRequest = 16 << 10

// ParseRequest returns the public key of a certificate request (PKCS #10, RFC 2986), in PEM or DER: an RSA key of 2048
// to 4096 bits, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key. The request's signature is checked, so whoever
// made it has the private key. Its subject and its extensions are not read: who asks does not decide what the
// certificate says.
func ParseRequest(csr []byte) (crypto.PublicKey, error) {
	der, err := requestDER(csr)
	if err != nil {
		return nil, fmt.Errorf("the certificate request: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the certificate request can't be read (%s); create it again with openssl req -new -key FILE", clean(err.Error()))
	}
	if err := checkKey(request.PublicKey); err != nil { // first, since to check a signature with a huge key takes long
		return nil, fmt.Errorf("the certificate request: %w; create it with another key", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed with its own key (%s); create it again with openssl req -new -key FILE", clean(err.Error()))
	}
	return request.PublicKey, nil
}

func requestDER(csr []byte) ([]byte, error) {
	if len(csr) > maxRequest {
		return nil, fmt.Errorf("it has %d bytes, more than the maximum of %d", len(csr), maxRequest)
	}
	csr = safetext.WithoutMark(csr)
	if len(csr) > 0 && csr[0] == 0x30 && !bytes.Contains(csr, []byte("-----BEGIN ")) { // a sequence in DER, not a text
		return csr, nil
	}
	blocks, err := readPEM(csr)
	if err != nil {
		return nil, err
	}
	switch block := blocks[0]; {
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("it contains a private key, which must stay secret; send only the request: openssl req -new -key FILE")
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, fmt.Errorf("it is a %q; send a CERTIFICATE REQUEST: openssl req -new -key FILE", clean(block.Type))
	case len(blocks) > 1:
		return nil, errors.New("there are several PEM blocks; send one request")
	}
	return blocks[0].Bytes, nil
}
