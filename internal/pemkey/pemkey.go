// Package pemkey reads private keys from PEM, and says which keys are strong enough: for both programs the same, so that
// the control plane issues nothing that the proxy refuses.
//
// It takes blocks and not a text. What may stand around them is for the callers to decide: a file that the proxy serves
// with must not have been cut, and what people give the control plane may have openssl's descriptions around it. Errors
// say how to make the key usable, and never show a part of it.
package pemkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"pgmtls-proxy/internal/safetext"
)

// The bounds of RSA keys, in bits. Shorter ones are breakable, and longer ones cost a verifier a multiple for nothing: a
// stranger must not choose for how long the proxy computes.
const (
	MinRSA = 2048
	MaxRSA = 4096
)

// maxShown bounds text of the file in errors, in bytes.
const maxShown = 128

// generate is the command that makes a key which serves everywhere.
const generate = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"

var errEncrypted = errors.New("the private key is encrypted, and the program can't ask for its password; decrypt it with openssl pkey -in ENCRYPTED.key -out PLAIN.key and chmod 0600 PLAIN.key")

// ErrRSAPSS is the error for a key that is bound to RSA-PSS, with which crypto/tls can't sign.
var ErrRSAPSS = errors.New("the key is of the type RSA-PSS, which TLS here can't use; make one with " + generate + ", or of the type RSA")

// oidRSAPSS is id-RSASSA-PSS as the type of a key: RFC 4055.
var oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

// IsRSAPSS reports whether the algorithm is that of a key which is bound to RSA-PSS.
func IsRSAPSS(algorithm asn1.ObjectIdentifier) bool { return algorithm.Equal(oidRSAPSS) }

// Parse returns the one private key among the blocks, in PKCS #8, PKCS #1 or SEC 1: an ECDSA, RSA or Ed25519 key. An EC
// PARAMETERS block is allowed beside it. Whether the key is strong is a question for [CheckStrength], with the key's
// public half or with that of the certificate it belongs to.
func Parse(blocks []*pem.Block) (crypto.Signer, error) {
	var found *pem.Block
	for _, block := range blocks {
		switch block.Type {
		case "EC PARAMETERS":
			continue // openssl ecparam -genkey writes it before the key, which repeats it
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncrypted
		case "OPENSSH PRIVATE KEY":
			return nil, errors.New("the private key is in OpenSSH's format; make one with " + generate)
		case "CERTIFICATE":
			return nil, errors.New("there is a certificate where the private key is expected; give the certificate's file and the key's the other way round, or take the certificate out of the key's file")
		default:
			return nil, fmt.Errorf("there is a PEM block of the type \"%s\" where the private key is expected; make one with %s", safetext.Escape(block.Type, maxShown), generate)
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
	return decode(found)
}

func decode(block *pem.Block) (crypto.Signer, error) {
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
		if _, err := asn1.Unmarshal(block.Bytes, &info); err == nil && IsRSAPSS(info.Algorithm.Algorithm) {
			return nil, ErrRSAPSS
		}
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		cause := safetext.Escape(strings.ReplaceAll(err.Error(), "\n", "; "), maxShown)
		if strings.Contains(cause, "unknown algorithm") {
			return nil, fmt.Errorf("the private key can't be read (%s): it is of a kind other than ECDSA, RSA and Ed25519; make one with %s", cause, generate)
		}
		return nil, fmt.Errorf("the private key can't be read (%s): %s", cause, Remedy(block.Bytes, err))
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

// CheckStrength returns an error for a public key that is too weak, that costs too much to verify with, or that is of a
// kind which is not served here. The error begins with the kind of the key, for callers to write "its" before it.
func CheckStrength(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < MinRSA || bits > MaxRSA {
			return fmt.Errorf("RSA key has %d bits, not %d to %d", bits, MinRSA, MaxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("ECDSA key is on the curve %s, not P-256, P-384 or P-521", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("key is not of the kind ECDSA, Ed25519 or RSA")
}

// Belongs reports whether the private key is that of the public one.
func Belongs(key crypto.Signer, public crypto.PublicKey) bool {
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(public)
}
