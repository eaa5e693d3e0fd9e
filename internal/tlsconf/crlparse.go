package tlsconf

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"pgmtls-proxy/internal/pemkey"
	"pgmtls-proxy/internal/safetext"
)

// parsedList is a revocation list of which nothing was checked yet.
type parsedList struct {
	*x509.RevocationList // without entries
	entries              cryptobyte.String
}

// parseLists reads PEM or, if there is no sign of PEM, DER.
func parseLists(text []byte) ([]*parsedList, error) {
	if len(text) > 0 && text[0] == 0x30 && !bytes.Contains(text, []byte("-----BEGIN")) {
		list, err := parseList(text)
		if err != nil {
			return nil, err
		}
		return []*parsedList{list}, nil
	}
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	var lists []*parsedList
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

// parseList reads a list. crypto/x509 makes a kilobyte of each entry, so it gets the list without its entries, of which only the
// serials count.
func parseList(der []byte) (*parsedList, error) {
	head, tbs, entries, ok := takeEntries(der)
	if !ok {
		head = der // crypto/x509 says what is wrong with it
	}
	list, err := x509.ParseRevocationList(head)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the revocation list can't be read (%s): %s", safetext.Escape(oneLine(err), maxName), pemkey.Remedy(der, err))
	case ok && len(list.RevokedCertificateEntries) > 0:
		return nil, errors.New("the revocation list has its entries in two places, and is not as RFC 5280 has it: issue it again, with another program")
	case !ok || len(list.Raw) != len(head):
		return nil, errors.New("there are bytes behind the revocation list; copy the file again")
	}
	list.Raw, list.RawTBSRevocationList = der, tbs
	return &parsedList{list, entries}, nil
}

// takeEntries takes the entries out of a list. Head is the list without them, with the lengths corrected; tbs is what was
// signed.
func takeEntries(der []byte) (head, tbs []byte, entries cryptobyte.String, ok bool) {
	var list, signed, fields, entriesElement cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) || !input.Empty() || !list.ReadASN1Element(&signed, cryptobyte_asn1.SEQUENCE) {
		return nil, nil, nil, false
	}
	tbs = signed
	if !signed.ReadASN1(&fields, cryptobyte_asn1.SEQUENCE) {
		return nil, nil, nil, false
	}
	// version, signature, issuer, thisUpdate, nextUpdate: RFC 5280 section 5.1
	rest := fields
	ok = rest.SkipOptionalASN1(cryptobyte_asn1.INTEGER) && rest.SkipASN1(cryptobyte_asn1.SEQUENCE) && rest.SkipASN1(cryptobyte_asn1.SEQUENCE) &&
		rest.SkipOptionalASN1(cryptobyte_asn1.UTCTime) && rest.SkipOptionalASN1(cryptobyte_asn1.GeneralizedTime) &&
		rest.SkipOptionalASN1(cryptobyte_asn1.UTCTime) && rest.SkipOptionalASN1(cryptobyte_asn1.GeneralizedTime)
	before := fields[:len(fields)-len(rest)]
	if rest.PeekASN1Tag(cryptobyte_asn1.SEQUENCE) {
		ok = ok && rest.ReadASN1Element(&entriesElement, cryptobyte_asn1.SEQUENCE) && entriesElement.ReadASN1(&entries, cryptobyte_asn1.SEQUENCE)
	}
	if !ok {
		return nil, nil, nil, false
	}
	var b cryptobyte.Builder
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(before)
			b.AddBytes(rest)
		})
		b.AddBytes(list) // algorithm and signature
	})
	head, err := b.Bytes()
	return head, tbs, entries, err == nil
}

// check refuses a list that does not say everything about the certificates that it is for, or that says it in a way that is not
// understood here: such a list would let revoked certificates in.
func (l *parsedList) check() (*revocations, error) {
	if err := checkSignature(l.SignatureAlgorithm); err != nil {
		return nil, err
	}
	covered, err := checkList(l.RevocationList)
	if err != nil {
		return nil, err
	}
	serials, err := readSerials(l.entries)
	if err != nil {
		return nil, err
	}
	return &revocations{thisUpdate: l.ThisUpdate, nextUpdate: l.NextUpdate, number: l.Number, serials: serials,
		digest: sha256.Sum256(l.Raw), scope: covered, list: l.RevocationList}, nil
}

// checkList checks everything but the entries.
func checkList(list *x509.RevocationList) (scope, error) {
	var covered scope
	if list.NextUpdate.IsZero() {
		return covered, errors.New("it has no nextUpdate (RFC 5280 section 5.1.2.5), so it can't be known when it is out of date; issue it with one")
	}
	for i := range list.Extensions {
		extension := &list.Extensions[i]
		switch {
		case extension.Id.Equal(oidDelta):
			return covered, errors.New("it is a delta list (deltaCRLIndicator); use the full list")
		case extension.Id.Equal(oidDistribution):
			var err error
			if covered, err = readScope(extension.Value); err != nil {
				return covered, err
			}
		case extension.Critical:
			return covered, fmt.Errorf("it has the unknown critical extension %v; issue it without", extension.Id)
		}
	}
	return covered, nil
}

// readSerials reads the entries of a list. All serials are parts of one string.
func readSerials(entries cryptobyte.String) (map[string]bool, error) {
	broken := errors.New("an entry can't be read: it is not as RFC 5280 has it; issue the list again, with another program")
	count := 0
	for rest := entries; !rest.Empty(); count++ {
		if !rest.SkipASN1(cryptobyte_asn1.SEQUENCE) {
			return nil, broken
		}
	}
	serials := make(map[string]bool, count)
	text := string(entries)
	for rest := entries; !rest.Empty(); {
		var entry, serial cryptobyte.String
		if !rest.ReadASN1(&entry, cryptobyte_asn1.SEQUENCE) || !entry.ReadASN1(&serial, cryptobyte_asn1.INTEGER) {
			return nil, broken
		}
		end := len(entries) - len(rest) - len(entry)
		number := strings.TrimLeft(text[end-len(serial):end], "\x00")
		serials[number] = true
		if !entry.SkipOptionalASN1(cryptobyte_asn1.UTCTime) || !entry.SkipOptionalASN1(cryptobyte_asn1.GeneralizedTime) {
			return nil, broken
		}
		if entry.Empty() {
			continue
		}
		if err := checkEntry(entry, []byte(number)); err != nil {
			return nil, err
		}
	}
	return serials, nil
}

// checkEntry refuses an entry that may be about another certificate than its serial says. Rest is what follows its time.
func checkEntry(rest cryptobyte.String, serial []byte) error {
	var extensions cryptobyte.String
	if !rest.ReadASN1(&extensions, cryptobyte_asn1.SEQUENCE) || !rest.Empty() {
		return errors.New("an entry can't be read: it is not as RFC 5280 has it; issue the list again, with another program")
	}
	for !extensions.Empty() {
		var extension cryptobyte.String
		var id asn1.ObjectIdentifier
		var critical bool
		if !extensions.ReadASN1(&extension, cryptobyte_asn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&id) ||
			extension.PeekASN1Tag(cryptobyte_asn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) {
			return errors.New("an entry's extension can't be read: it is not as RFC 5280 has it; issue the list again, with another program")
		}
		if critical {
			return fmt.Errorf("its entry for serial %s has the unknown critical extension %v; issue it without",
				FormatSerial(new(big.Int).SetBytes(serial)), id)
		}
	}
	return nil
}
