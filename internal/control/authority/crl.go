package authority

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// CRL specifies what a revocation list is to hold.
type CRL struct {
	// Number grows with every list of a CA: 1 or more (RFC 5280 section 5.2.3).
	Number int64
	// After NextUpdate the list is stale, and the proxy refuses every certificate of the CA.
	ThisUpdate, NextUpdate time.Time
	// Entries may be in any order. Of several for one serial the earliest counts.
	Entries []Revoked
}

// Revoked is one certificate that is no longer good.
type Revoked struct {
	Serial string // in the form of [Issued]
	At     time.Time
}

// SignCRL returns the full revocation list of the CA, in PEM. A list without entries is one too: it says that nothing is
// revoked.
func (ca *CA) SignCRL(crl CRL) ([]byte, error) {
	if crl.Number < 1 {
		return nil, fmt.Errorf("the revocation list has the number %d; numbers start at 1", crl.Number)
	}
	thisUpdate, nextUpdate := crl.ThisUpdate.UTC().Truncate(time.Second), crl.NextUpdate.UTC().Truncate(time.Second)
	if !thisUpdate.Before(nextUpdate) {
		return nil, fmt.Errorf("the revocation list would be stale at %s, before it becomes valid; choose a later nextUpdate", stamp(nextUpdate))
	}
	entries, err := revokedEntries(crl.Entries)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number:                    big.NewInt(crl.Number),
		ThisUpdate:                thisUpdate,
		NextUpdate:                nextUpdate,
		RevokedCertificateEntries: entries,
	}, ca.cert(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the revocation list: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// revokedEntries returns one entry for each serial, by serial.
func revokedEntries(revoked []Revoked) ([]x509.RevocationListEntry, error) {
	entries := make([]x509.RevocationListEntry, 0, len(revoked))
	for _, r := range revoked {
		serial, err := parseSerial(r.Serial)
		if err != nil {
			return nil, fmt.Errorf("revoked serial %w", err)
		}
		entries = append(entries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: r.At.UTC().Truncate(time.Second)})
	}
	slices.SortFunc(entries, func(a, b x509.RevocationListEntry) int {
		if order := a.SerialNumber.Cmp(b.SerialNumber); order != 0 {
			return order
		}
		return a.RevocationTime.Compare(b.RevocationTime)
	})
	return slices.CompactFunc(entries, func(a, b x509.RevocationListEntry) bool { return a.SerialNumber.Cmp(b.SerialNumber) == 0 }), nil
}
