package testpki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	_ "embed" // the encrypted keys
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// EncryptedPKCS8 is a P-256 key as `openssl pkcs8 -topk8` encrypts it, with the password "secret".
//
//go:embed testdata/encrypted-pkcs8.key
var EncryptedPKCS8 []byte

// EncryptedLegacy is an RSA key with the DEK-Info header of OpenSSL before 1.0, with the password "secret".
//
//go:embed testdata/encrypted-legacy.key
var EncryptedLegacy []byte

// The AlgorithmIdentifier of an RSA key, and that of an RSA-PSS key with default parameters, which has the same
// length: RFC 4055 section 3.1.
var (
	rsaEncryption = []byte{0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0}
	rsaPSS        = []byte{0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10, 0x30, 0}
)

// PEMPair is a certificate and a key that Go can't hold as values.
type PEMPair struct{ CertPEM, KeyPEM []byte }

// IssueRSAPSS issues a certificate whose key, RSA of 2048 bits, has the type id-RSASSA-PSS, as `openssl genpkey
// -algorithm RSA-PSS` makes it. Go parses the certificate without its key, and the key not at all. The CA's own key must be ECDSA.
func (ca *CA) IssueRSAPSS(t Template) (PEMPair, error) {
	issuer, ok := ca.Key.(*ecdsa.PrivateKey)
	if !ok {
		return PEMPair{}, errors.New("an RSA-PSS certificate can be issued by a CA with an ECDSA key only")
	}
	t.Key, t.Signer = RSA2048, nil
	pair, err := ca.Issue(t)
	if err != nil {
		return PEMPair{}, err
	}
	tbs := bytes.Replace(pair.Cert.RawTBSCertificate, rsaEncryption, rsaPSS, 1)
	digest := sha256.Sum256(tbs)
	signature, err := issuer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return PEMPair{}, fmt.Errorf("sign certificate %q: %w", t.CommonName, err)
	}
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: tbs},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, // ecdsa-with-SHA256
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	if err != nil {
		return PEMPair{}, fmt.Errorf("encode certificate %q: %w", t.CommonName, err)
	}
	key, _ := pem.Decode(pair.KeyPEM)
	return PEMPair{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: key.Type, Bytes: bytes.Replace(key.Bytes, rsaEncryption, rsaPSS, 1)}),
	}, nil
}
