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
)

// revocations is one revocation list.
type revocations struct {
	thisUpdate, nextUpdate time.Time
	number                 *big.Int        // tells lists of the same second apart
	serials                map[string]bool // by their bytes
	digest                 digest
	scope                  scope
	place                  place
	list                   *x509.RevocationList // while its signature may have to be verified
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

// addLists adds the revocation lists of a file to their issuers. Those of CAs that are not in client_ca wait for a chain with
// such a CA.
func (t *ClientVerifier) addLists(file File) error {
	lists, err := parseLists(file.Text)
	if err != nil {
		return err
	}
	for i, parsed := range lists {
		list, err := parsed.check()
		if err == nil {
			list.place = place{file.Name, i}
			err = t.addList(list)
		}
		if err != nil {
			return fmt.Errorf("revocation list %d of %s: %w", i+1, quote(parsed.Issuer.String()), err)
		}
	}
	return nil
}

// addList adds a list to the CA that signed it.
func (t *ClientVerifier) addList(list *revocations) error {
	named := false
	for _, cert := range t.cas {
		if !bytes.Equal(cert.RawSubject, list.list.RawIssuer) {
			continue
		}
		named = true
		if list.list.CheckSignatureFrom(cert) == nil {
			list.list = nil
			t.issuer(cert).add(list)
			return nil
		}
	}
	if named {
		return errors.New("the CA of that name in client_ca did not sign it or may not sign lists (key usage cRLSign); use the list of that CA")
	}
	t.below.add(list)
	return nil
}

// add keeps a list, newest first. The same list again is kept where less can get lost before it.
func (i *issuer) add(added *revocations) {
	for _, known := range i.lists {
		if known.digest == added.digest {
			if added.place.index < known.place.index {
				known.place = added.place
			}
			return
		}
	}
	before := slices.IndexFunc(i.lists, added.newer)
	if before < 0 {
		before = len(i.lists)
	}
	i.lists = slices.Insert(i.lists, before, added)
}

// revoked reports whether a certificate of the issuer is revoked. Of the lists of each scope it asks the newest that is in
// force, and every one of the future: that list was signed by a clock that is ahead of this one, and nobody would publish it so that
// it is ignored. A list of the future takes away, but does not give back: an older list that is in force still counts. A list for
// other certificates counts too, since no two certificates of a CA have one serial.
func (i *issuer) revoked(serial string, now time.Time) bool {
	for n, list := range i.lists {
		replaced := slices.ContainsFunc(i.lists[:n], func(newer *revocations) bool {
			return newer.scope.raw == list.scope.raw && !newer.thisUpdate.After(now)
		})
		if !replaced && list.serials[serial] {
			return true
		}
	}
	return false
}

// known returns until when it is known whether a certificate is revoked, by the lists that cover it; zero without any.
func (i *issuer) known(cert *x509.Certificate) time.Time {
	var until time.Time
	for n, list := range i.lists {
		replaced := slices.ContainsFunc(i.lists[:n], func(newer *revocations) bool { return newer.scope.raw == list.scope.raw })
		if !replaced && list.nextUpdate.After(until) && list.scope.covers(cert) {
			until = list.nextUpdate
		}
	}
	return until
}

// CRLInfo describes a revocation list for status, metrics and the check command. Issuer is fit to be shown.
type CRLInfo struct {
	Issuer                 string
	ThisUpdate, NextUpdate time.Time // after NextUpdate every certificate of the issuer is refused
	Revoked                int
	Below                  bool // its issuer is not in client_ca: the list counts for clients that come with that CA
}

// CRLs lists the revocation lists, by issuer in the order of [ClientVerifier.CAs] and newest first, and behind them those of other
// CAs. A nil ClientVerifier has none.
func (t *ClientVerifier) CRLs() []CRLInfo {
	if t == nil {
		return nil
	}
	var infos []CRLInfo
	for _, known := range slices.Concat(t.issuers, t.below.issuers) {
		for _, list := range known.lists {
			infos = append(infos, CRLInfo{known.name, list.thisUpdate, list.nextUpdate, len(list.serials), known.key == nil})
		}
	}
	return infos
}
