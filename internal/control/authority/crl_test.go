package authority

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

func TestListNamesWhatIsRevokedOnce(t *testing.T) {
	ca := newCA(t)
	text, err := ca.SignCRL(CRL{Number: 7, ThisUpdate: start, NextUpdate: start.AddDate(0, 0, 30), Entries: []Revoked{
		{"99:01", start.Add(time.Minute)},
		{"1f:0a", start.Add(3 * time.Minute)},
		{"1f:0a", start.Add(2 * time.Minute)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(ca.cert()); err != nil {
		t.Error(err)
	}
	if list.Number.Cmp(big.NewInt(7)) != 0 || !list.ThisUpdate.Equal(start) || !list.NextUpdate.Equal(start.AddDate(0, 0, 30)) {
		t.Errorf("number %v from %v to %v", list.Number, list.ThisUpdate, list.NextUpdate)
	}
	entries := list.RevokedCertificateEntries
	if len(entries) != 2 || formatSerial(entries[0].SerialNumber) != "1f:0a" || !entries[0].RevocationTime.Equal(start.Add(2*time.Minute)) ||
		formatSerial(entries[1].SerialNumber) != "99:01" {
		t.Errorf("entries %v", entries)
	}
}

func TestBadListsAreRefused(t *testing.T) {
	good := CRL{Number: 1, ThisUpdate: start, NextUpdate: start.AddDate(0, 0, 30)}
	tests := []struct {
		edit func(*CRL)
		want string
	}{
		{func(c *CRL) { c.Number = 0 }, "numbers start at 1"},
		{func(c *CRL) { c.NextUpdate = c.ThisUpdate }, "stale"},
		{func(c *CRL) { c.Entries = []Revoked{{"", start}} }, "not a serial number"},
		{func(c *CRL) { c.Entries = []Revoked{{"00", start}} }, "not a serial number"},
		{func(c *CRL) { c.Entries = []Revoked{{"1F:0A", start}} }, "not a serial number"},
		{func(c *CRL) { c.Entries = []Revoked{{"1f0a", start}} }, "not a serial number"},
		{func(c *CRL) { c.Entries = []Revoked{{"00:1f", start}} }, "not a serial number"},
		{func(c *CRL) {
			c.Entries = []Revoked{{"01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15", start}}
		}, "not a serial number"},
	}
	ca := newCA(t)
	for _, test := range tests {
		crl := good
		test.edit(&crl)
		_, err := ca.SignCRL(crl)
		wantError(t, err, test.want)
	}
}
