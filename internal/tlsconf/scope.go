package tlsconf

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidPoints    = asn1.ObjectIdentifier{2, 5, 29, 31} // of a certificate: where its revocation lists are
	tagDirectory = cryptobyte_asn1.Tag(4).ContextSpecific().Constructed()
)

// scope specifies which certificates of its issuer a revocation list covers, by its issuing distribution point (RFC 5280 section
// 5.2.5). The zero value covers all.
type scope struct {
	raw       string   // the extension: lists of one scope replace one another
	points    []string // names of the list in DER, one of which a certificate has to give; none: any will do
	usersOnly bool     // no certificates of CAs
}

// readScope reads an issuing distribution point. It refuses lists that don't say everything about the certificates that they are
// for, that are about other issuers' certificates, or that are restricted in a way that is not understood here.
func readScope(extension []byte) (scope, error) {
	s := scope{raw: string(extension)}
	input := cryptobyte.String(extension)
	var fields, point, reasons cryptobyte.String
	var named, some, casOnly, indirect, attributesOnly bool
	context := func(tag uint8) cryptobyte_asn1.Tag { return cryptobyte_asn1.Tag(tag).ContextSpecific() }
	ok := input.ReadASN1(&fields, cryptobyte_asn1.SEQUENCE) && input.Empty() && !fields.Empty() &&
		fields.ReadOptionalASN1(&point, &named, context(0).Constructed()) &&
		readFlag(&fields, &s.usersOnly, context(1)) &&
		readFlag(&fields, &casOnly, context(2)) &&
		fields.ReadOptionalASN1(&reasons, &some, context(3)) &&
		readFlag(&fields, &indirect, context(4)) &&
		readFlag(&fields, &attributesOnly, context(5)) &&
		fields.Empty()
	switch {
	case !ok:
		return scope{}, errors.New("its issuing distribution point can't be read (RFC 5280 section 5.2.5); use a list without one")
	case indirect:
		return scope{}, errors.New("it is an indirect list, for certificates of other CAs too (indirectCRL in the issuing distribution point); use each CA's own list")
	case some:
		return scope{}, errors.New("it covers only some reasons of revocation (onlySomeReasons in the issuing distribution point); use the list for all reasons")
	case attributesOnly:
		return scope{}, errors.New("it covers no client certificates (onlyContainsAttributeCerts in the issuing distribution point); use the list of user certificates, or the full list")
	case casOnly:
		return scope{}, errors.New("it covers no client certificates (onlyContainsCACerts in the issuing distribution point); use the full list")
	case named:
		if s.points = fullNames(point); len(s.points) == 0 {
			return scope{}, errors.New("the name in its issuing distribution point is not a full name (nameRelativeToCRLIssuer); issue it with a URL")
		}
	}
	return s, nil
}

// readFlag reads a BOOLEAN with an implicit tag. Its default is false.
func readFlag(fields *cryptobyte.String, flag *bool, tag cryptobyte_asn1.Tag) bool {
	var value cryptobyte.String
	var present bool
	if !fields.ReadOptionalASN1(&value, &present, tag) {
		return false
	}
	if !present {
		return true
	}
	*flag = len(value) == 1 && value[0] == 0xff
	return *flag || len(value) == 1 && value[0] == 0
}

// fullNames reads the names of a DistributionPointName, each in DER; none if it has another form.
func fullNames(point cryptobyte.String) []string {
	var list cryptobyte.String
	if !point.ReadASN1(&list, cryptobyte_asn1.Tag(0).ContextSpecific().Constructed()) || !point.Empty() {
		return nil
	}
	var names []string
	for !list.Empty() {
		var name cryptobyte.String
		var tag cryptobyte_asn1.Tag
		if !list.ReadAnyASN1Element(&name, &tag) {
			return nil
		}
		names = append(names, string(name))
	}
	return names
}

// covers reports whether the list is for a certificate of its issuer, as RFC 5280 section 6.3.3 decides: where the list has
// a name, the certificate has to point to it, or the name is that of the issuer.
func (s *scope) covers(cert *x509.Certificate) bool {
	if s.usersOnly && cert.IsCA {
		return false
	}
	if len(s.points) == 0 {
		return true
	}
	var issuer cryptobyte.Builder
	issuer.AddASN1(tagDirectory, func(b *cryptobyte.Builder) { b.AddBytes(cert.RawIssuer) })
	if slices.Contains(s.points, string(issuer.BytesOrPanic())) {
		return true
	}
	return slices.ContainsFunc(pointsOf(cert), func(name string) bool { return slices.Contains(s.points, name) })
}

// pointsOf returns the names of the lists that a certificate points to. Points for a part of the reasons, or to lists of
// other issuers, are left out: such lists are not taken.
func pointsOf(cert *x509.Certificate) []string {
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidPoints) })
	if i < 0 {
		return nil
	}
	var points cryptobyte.String
	if input := cryptobyte.String(cert.Extensions[i].Value); !input.ReadASN1(&points, cryptobyte_asn1.SEQUENCE) {
		return nil
	}
	var names []string
	for !points.Empty() {
		var fields, point cryptobyte.String
		var named bool
		if !points.ReadASN1(&fields, cryptobyte_asn1.SEQUENCE) ||
			!fields.ReadOptionalASN1(&point, &named, cryptobyte_asn1.Tag(0).ContextSpecific().Constructed()) {
			return nil
		}
		if named && fields.Empty() { // else: reasons, or cRLIssuer
			names = append(names, fullNames(point)...)
		}
	}
	return names
}
