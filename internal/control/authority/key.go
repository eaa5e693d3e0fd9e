package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"pgmtls-proxy/internal/pemkey"
)

// GenerateKey makes an ECDSA P-256 key, also as PEM in PKCS #8, not encrypted.
func GenerateKey() (key crypto.Signer, keyPEM []byte, err error) {
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key: %w", err)
	}
	keyPEM, err = encodeKey(key)
	return key, keyPEM, err
}

// MatchesKey returns nil if the private key is that of the first certificate, both in PEM.
func MatchesKey(certPEM, keyPEM []byte) error {
	certs, err := parseCertificates(certPEM)
	if err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return fmt.Errorf("the key: %w", err)
	}
	if !pemkey.Belongs(key, certs[0].PublicKey) {
		return fmt.Errorf("the key does not belong to the certificate %s; use the key that the certificate was issued for", subject(certs[0]))
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

// parseKey reads the one private key of the text, which must be as strong as the proxy demands.
func parseKey(text []byte) (crypto.Signer, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	key, err := pemkey.Parse(blocks)
	if err != nil {
		return nil, err
	}
	if err := checkKey(key.Public()); err != nil {
		return nil, err
	}
	return key, nil
}

// checkKey refuses public keys that the proxy would refuse.
func checkKey(public crypto.PublicKey) error {
	if err := pemkey.CheckStrength(public); err != nil {
		return fmt.Errorf("the %w", err)
	}
	return nil
}
