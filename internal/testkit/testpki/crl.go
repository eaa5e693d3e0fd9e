package testpki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// CRL specifies what a revocation list holds.
type CRL struct {
	Revoked    []*big.Int
	ThisUpdate time.Time // zero: an hour ago
	NextUpdate time.Time // zero: in 24 hours
	Number     int64     // zero: 1
	Extra      []pkix.Extension
	Signature  x509.SignatureAlgorithm // zero: Go's choice for the CA's key
}

// CRL makes a revocation list of the CA, in PEM.
func (ca *CA) CRL(list CRL) ([]byte, error) {
	now := time.Now()
	template := &x509.RevocationList{
		ThisUpdate:         list.ThisUpdate,
		NextUpdate:         list.NextUpdate,
		Number:             big.NewInt(max(list.Number, 1)),
		ExtraExtensions:    list.Extra,
		SignatureAlgorithm: list.Signature,
	}
	if template.ThisUpdate.IsZero() {
		template.ThisUpdate = now.Add(-time.Hour)
	}
	if template.NextUpdate.IsZero() {
		template.NextUpdate = now.Add(24 * time.Hour)
	}
	for _, serial := range list.Revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: serial, RevocationTime: template.ThisUpdate,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca.Cert, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign revocation list of %q: %w", ca.Cert.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}
