package pemkey

import (
	"encoding/asn1"
	"strings"
)

// Remedy says what helps with a certificate, a key or a revocation list in DER that crypto/x509 can't read, by its error. Copying the
// file again is a remedy only if it was damaged on its way: then its outermost length is wrong, or what is inside does not parse.
func Remedy(der []byte, err error) string {
	text := err.Error()
	says := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	switch {
	case !whole(der):
		return "it is damaged or was cut: copy the file again"
	case says("elliptic curve", "invalid ECDSA parameters", "failed to parse EC private key"):
		return "its curve, or the way in which its parameters are written out, is not supported: issue it again for a key on P-256, as of " + generate
	case says("negative serial"):
		return "issue it again with a positive serial number"
	case says("unsupported crl version"):
		return "it is of version 1, which has no number: openssl ca needs crlnumber in its configuration (echo 01 > crlnumber); then issue the list again"
	case says("URI", "SAN ", "dNSName", "iPAddress", "rfc822Name", "IP address"):
		return "one of its names is not what RFC 5280 allows: issue it again with a correct name"
	case says("duplicate extension"):
		return "it has an extension twice: issue it again with each once"
	}
	return "it is complete, but not as RFC 5280 has it: issue it again, with another program if this one repeats it"
}

// whole reports whether DER has its announced length, and values of DER all the way down.
func whole(der []byte) bool {
	var value asn1.RawValue
	rest, err := asn1.Unmarshal(der, &value)
	if err != nil || len(rest) > 0 || !value.IsCompound {
		return false
	}
	return wellFormed(value.Bytes, 1)
}

// wellFormed reports whether the bytes are a sequence of values. Constructed ones are looked into.
func wellFormed(der []byte, depth int) bool {
	const deepest = 32
	for len(der) > 0 {
		var value asn1.RawValue
		rest, err := asn1.Unmarshal(der, &value)
		if err != nil || depth > deepest || value.IsCompound && !wellFormed(value.Bytes, depth+1) {
			return false
		}
		der = rest
	}
	return true
}
