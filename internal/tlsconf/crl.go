package tlsconf

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"pgmtls-proxy/internal/safetext"
)

// revocations is one revocation list whose signature was checked.
type revocations struct {
	thisUpdate, nextUpdate time.Time
	number                 *big.Int        // tells lists of the same second apart
	serials                map[string]bool // by their bytes
	raw                    []byte
	place                  place
}

// newer reports whether the list replaces the other one.
func (r *revocations) newer(than *revocations) bool {
	if !r.thisUpdate.Equal(than.thisUpdate) {
		return r.thisUpdate.After(than.thisUpdate)
	}
	return r.number != nil && (than.number == nil || r.number.Cmp(than.number) > 0)
}

// The extensions that make a list something else than the full list of its issuer: RFC 5280 sections 5.2.4 and 5.2.5.
var (
	oidDelta        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistribution = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// addLists adds the revocation lists of a file to their issuers.
func (t *ClientVerifier) addLists(file File) error {
	lists, err := parseLists(file.Text)
	if err != nil {
		return err
	}
	for i, list := range lists {
		known, err := t.signer(list)
		if err == nil {
			err = checkList(list)
		}
		if err != nil {
			return fmt.Errorf("revocation list %d of %s: %w", i+1, quote(list.Issuer.String()), err)
		}
		known.add(list, place{file.Name, i})
	}
	return nil
}

// parseLists reads PEM or, if there is no sign of PEM, DER.
func parseLists(text []byte) ([]*x509.RevocationList, error) {
	if len(text) > 0 && text[0] == 0x30 && !bytes.Contains(text, []byte("-----BEGIN")) {
		list, err := parseList(text)
		if err != nil {
			return nil, err
		}
		return []*x509.RevocationList{list}, nil
	}
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	var lists []*x509.RevocationList
	for i, block := range blocks {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("PEM block %d has the type %s where an X509 CRL is expected", i+1, quote(block.Type))
		}
		list, err := parseList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		lists = append(lists, list)
	}
	return lists, nil
}

func parseList(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("the revocation list can't be read (%s); copy the file again", safetext.Escape(oneLine(err), maxName))
	}
	if len(list.Raw) != len(der) {
		return nil, errors.New("there are bytes behind the revocation list; copy the file again")
	}
	return list, nil
}

// signer finds the CA that signed the list.
func (t *ClientVerifier) signer(list *x509.RevocationList) (*issuer, error) {
	if err := checkSignature(list.SignatureAlgorithm); err != nil {
		return nil, err
	}
	named := false
	for _, cert := range t.cas {
		if !bytes.Equal(cert.RawSubject, list.RawIssuer) {
			continue
		}
		named = true
		if list.CheckSignatureFrom(cert) == nil {
			return t.issuer(cert), nil
		}
	}
	if named {
		return nil, errors.New("the CA of that name in client_ca did not sign it or may not sign lists (key usage cRLSign); use the list of that CA")
	}
	return nil, errors.New("client_ca has no CA of that name; add the CA, or remove the list")
}

// checkList refuses lists that don't say everything about their issuer's certificates, or that say it in a way that
// is not understood here. A list that says less than it seems to would let revoked certificates in.
func checkList(list *x509.RevocationList) error {
	if list.NextUpdate.IsZero() {
		return errors.New("it has no nextUpdate (RFC 5280 section 5.1.2.5), so it can't be known when it is out of date; issue it with one")
	}
	for _, extension := range list.Extensions {
		switch {
		case extension.Id.Equal(oidDelta):
			return errors.New("it is a delta list; use the full list")
		case extension.Id.Equal(oidDistribution):
			return errors.New("it covers only a part of the certificates (issuing distribution point); use the full list")
		case extension.Critical:
			return fmt.Errorf("it has the unknown critical extension %v; issue it without", extension.Id)
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical {
				return fmt.Errorf("its entry for serial %s has the unknown critical extension %v; issue it without",
					FormatSerial(entry.SerialNumber), extension.Id)
			}
		}
	}
	return nil
}

// add keeps a list, newest first. The same list again is kept where less can get lost before it.
func (i *issuer) add(list *x509.RevocationList, at place) {
	for _, known := range i.lists {
		if bytes.Equal(known.raw, list.Raw) {
			if at.index < known.place.index {
				known.place = at
			}
			return
		}
	}
	added := &revocations{list.ThisUpdate, list.NextUpdate, list.Number, make(map[string]bool, len(list.RevokedCertificateEntries)), list.Raw, at}
	for _, entry := range list.RevokedCertificateEntries {
		added.serials[string(entry.SerialNumber.Bytes())] = true
	}
	before := slices.IndexFunc(i.lists, func(known *revocations) bool { return added.newer(known) })
	if before < 0 {
		before = len(i.lists)
	}
	i.lists = slices.Insert(i.lists, before, added)
}

// revoked reports whether a certificate of the issuer is revoked. It asks the newest list that is in force, and every list
// of the future: that list was signed by a clock that is ahead of this one, and nobody would publish it so that it is
// ignored. A list of the future takes away, but does not give back: an older list that is in force still counts.
func (i *issuer) revoked(serial string, now time.Time) bool {
	for _, list := range i.lists {
		if list.serials[serial] {
			return true
		}
		if !list.thisUpdate.After(now) {
			return false
		}
	}
	return false
}

// newest returns the list that replaces all others. Its nextUpdate says until when revocation is known.
func (i *issuer) newest() *revocations { return i.lists[0] }

// CRLInfo describes a revocation list for status, metrics and the check command. Issuer is fit to be shown.
type CRLInfo struct {
	Issuer                 string
	ThisUpdate, NextUpdate time.Time // after NextUpdate every certificate of the issuer is refused
	Revoked                int
}

// CRLs lists the revocation lists, by issuer in the order of [Trust.CAs] and newest first. A nil Trust has none.
func (t *ClientVerifier) CRLs() []CRLInfo {
	if t == nil {
		return nil
	}
	var infos []CRLInfo
	for _, known := range t.issuers {
		for _, list := range known.lists {
			infos = append(infos, CRLInfo{known.name, list.thisUpdate, list.nextUpdate, len(list.serials)})
		}
	}
	return infos
}
