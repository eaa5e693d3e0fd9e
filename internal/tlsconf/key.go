package tlsconf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"pgmtls-proxy/internal/safetext"
)

// oidRSAPSS is id-RSASSA-PSS as the type of a key: RFC 4055. crypto/tls can't sign with one.
var oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

var (
	errEncrypted = errors.New("the private key is encrypted, and the proxy has nobody to ask for a password; decrypt it with openssl pkey -in ENCRYPTED.key -out PLAIN.key and chmod 0600 PLAIN.key")
	errPSS       = errors.New("the key is of the type RSA-PSS, which TLS here can't use; make one with openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256, or of the type RSA")
)

// parseKey reads the one private key of a PEM file: PKCS #8, PKCS #1 or SEC 1.
func parseKey(text []byte) (crypto.Signer, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	var found *pem.Block
	for _, block := range blocks {
		switch block.Type {
		case "EC PARAMETERS":
			continue // openssl ecparam -genkey writes it before the key, which repeats it
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncrypted
		case "OPENSSH PRIVATE KEY":
			return nil, errors.New("the private key is in OpenSSH's format; make one with openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")
		case "CERTIFICATE":
			return nil, errors.New("there is a certificate where the private key is expected; give the certificate's file and the key's the other way round, or take the certificate out of the key's file")
		default:
			return nil, fmt.Errorf("there is a PEM block of the type %s where a private key is expected", quote(block.Type))
		}
		if block.Headers["DEK-Info"] != "" || block.Headers["Proc-Type"] != "" {
			return nil, errEncrypted
		}
		if found != nil {
			return nil, errors.New("there are several private keys; keep the one that belongs to the certificate")
		}
		found = block
	}
	if found == nil {
		return nil, errors.New("there is no private key")
	}
	return decodeKey(found)
}

func decodeKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		var info struct { // RFC 5958 section 2, without what follows
			Version   int
			Algorithm pkix.AlgorithmIdentifier
			Key       []byte
		}
		if _, err := asn1.Unmarshal(block.Bytes, &info); err == nil && info.Algorithm.Algorithm.Equal(oidRSAPSS) {
			return nil, errPSS
		}
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("the private key can't be read (%s); copy the file again", safetext.Escape(oneLine(err), maxName))
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("the private key is a %T, not an ECDSA, RSA or Ed25519 key", key)
}

// belongs reports whether the private key is that of the certificate.
func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}
