package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// Key is a kind of private key.
type Key uint8

// The kinds of keys. P224, RSA1024 and RSA4104 are there to be refused.
const (
	P256 Key = iota
	P384
	P521
	Ed25519
	RSA2048
	RSA3072
	RSA4096
	P224
	RSA1024
	RSA4104
)

// New makes a key. RSA keys of 4096 bits and more take a second.
func (k Key) New() (crypto.Signer, error) {
	switch k {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case P224:
		return ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case RSA4104:
		return rsa.GenerateKey(rand.Reader, 4104)
	}
	return nil, fmt.Errorf("no kind of key has the number %d", k)
}

func (t *Template) key() (crypto.Signer, error) {
	if t.Signer != nil {
		return t.Signer, nil
	}
	return t.Key.New()
}

// KeyPEM encodes a private key as PKCS #8.
func KeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
