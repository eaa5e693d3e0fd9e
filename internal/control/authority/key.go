package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The lengths of RSA keys, in bits, that the proxy accepts: what is shorter is weak, and what is longer lets a client
// make it compute for long.
const minRSA, maxRSA = 2048, 4096

var errEncrypted = errors.New("it is encrypted, and nobody is here to type the password; convert it with openssl pkey -in ENCRYPTED.key -out PLAIN.key")

// GenerateKey makes an ECDSA P-256 key, also as PEM in PKCS #8, not encrypted.
func GenerateKey() (key crypto.Signer, keyPEM []byte, err error) {
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key: %w", err)
	}
	keyPEM, err = encodeKey(key)
	return key, keyPEM, err
}

// MatchesKey tells whether the private key is that of the first certificate, both in PEM: nil when it is.
func MatchesKey(certPEM, keyPEM []byte) error {
	certs, err := parseCertificates(certPEM)
	if err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return fmt.Errorf("the key: %w", err)
	}
	if !belongs(key, certs[0]) {
		return fmt.Errorf("the key does not belong to the certificate %s; give the key that the certificate was issued for", subject(certs[0]))
	}
	return nil
}

// EncodePK8 writes a private key, given in PEM, as PKCS #8 in DER, not encrypted: what the JDBC driver of PostgreSQL
// reads as sslkey.
func EncodePK8(keyPEM []byte) ([]byte, error) {
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return der, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads the one private key of the text. Its errors show no part of it.
func parseKey(text []byte) (crypto.Signer, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	var found *pem.Block
	for _, block := range blocks {
		switch block.Type {
		case "EC PARAMETERS":
			continue // openssl ecparam -genkey writes them before the key, which repeats them
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncrypted
		case "CERTIFICATE":
			return nil, errors.New("there is a certificate where the private key is expected; give the two in files of their own")
		default:
			return nil, fmt.Errorf("there is a %q where the private key is expected; make one with openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", clean(block.Type))
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
		return nil, errors.New("there is no private key in it")
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
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("the private key can't be read: it is damaged, or of a kind other than ECDSA, RSA and Ed25519; copy the file again")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T can't sign; give an ECDSA, RSA or Ed25519 key", key)
	}
	if err := checkKey(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}

// checkKey refuses keys that the proxy would refuse.
func checkKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("the RSA key has %d bits, not %d to %d", bits, minRSA, maxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return errors.New("the ECDSA key is on a curve other than P-256, P-384 and P-521")
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("the key is not an ECDSA, RSA or Ed25519 key")
}

// belongs reports whether the private key is that of the certificate.
func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}
