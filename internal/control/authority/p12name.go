package authority

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"unicode/utf16"
)

// p12Name is the name (alias) of the key in a PKCS #12 file. pgjdbc asks for exactly this one: it is written down in
// PKCS12KeyManager.java, and a file without it makes the driver send no certificate.
const p12Name = "user"

// The parts of a PKCS #12 file (RFC 7292, appendix D) that lead to the key's attributes.
type (
	p12File struct {
		Version int
		Safe    p12Content
		MAC     p12MAC
	}
	p12Content struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	p12MAC struct {
		Digest struct {
			Algorithm pkix.AlgorithmIdentifier
			Digest    []byte
		}
		Salt       []byte
		Iterations int `asn1:"optional,default:1"`
	}
	p12Bag struct {
		Type       asn1.ObjectIdentifier
		Value      asn1.RawValue  `asn1:"tag:0,explicit"`
		Attributes []p12Attribute `asn1:"set,optional"`
	}
	p12Attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
)

var (
	oidData         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidShroudedKey  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	oidSHA256       = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// nameKey gives the key of a PKCS #12 file its name, which go-pkcs12 can't. The bag with the key is not encrypted as a
// whole, only the key in it is, so the attribute is added and the file's MAC computed again.
func nameKey(file []byte, name, password string) ([]byte, error) {
	var parsed p12File
	if err := unmarshalAll(file, &parsed); err != nil {
		return nil, err
	}
	var safe []byte
	if err := unmarshalAll(parsed.Safe.Content.Bytes, &safe); err != nil {
		return nil, err
	}
	var contents []p12Content
	if err := unmarshalAll(safe, &contents); err != nil {
		return nil, err
	}
	named := 0
	for i := range contents {
		if !contents[i].Type.Equal(oidData) {
			continue // encrypted: the certificates
		}
		count, err := nameBags(&contents[i], name)
		if err != nil {
			return nil, err
		}
		named += count
	}
	if named != 1 {
		return nil, fmt.Errorf("it has %d keys that can be named, and needs one", named)
	}
	safe, err := asn1.Marshal(contents)
	if err != nil {
		return nil, err
	}
	if parsed.Safe.Content, err = explicit(safe); err != nil {
		return nil, err
	}
	if !parsed.MAC.Digest.Algorithm.Algorithm.Equal(oidSHA256) {
		return nil, errors.New("its MAC is not HMAC-SHA-256")
	}
	parsed.MAC.Digest.Digest = p12Digest(safe, password, parsed.MAC.Salt, parsed.MAC.Iterations)
	return asn1.Marshal(parsed)
}

// nameBags adds the name to each key in the content, and gives their number.
func nameBags(content *p12Content, name string) (named int, err error) {
	var inner []byte
	if err := unmarshalAll(content.Content.Bytes, &inner); err != nil {
		return 0, err
	}
	var bags []p12Bag
	if err := unmarshalAll(inner, &bags); err != nil {
		return 0, err
	}
	value := asn1.RawValue{Tag: asn1.TagBMPString, Bytes: bmpString(name)}
	for i := range bags {
		if bags[i].Type.Equal(oidShroudedKey) {
			bags[i].Attributes = append(bags[i].Attributes, p12Attribute{oidFriendlyName, []asn1.RawValue{value}})
			named++
		}
	}
	if inner, err = asn1.Marshal(bags); err != nil {
		return 0, err
	}
	content.Content, err = explicit(inner)
	return named, err
}

// p12Digest is the MAC of RFC 7292, appendix B: HMAC with a key that is derived from the password. The key of SHA-256
// is one block of that derivation, so only its first step is needed.
func p12Digest(text []byte, password string, salt []byte, iterations int) []byte {
	const idMAC = 3
	derived := make([]byte, 0, 3*sha256.BlockSize)
	for range sha256.BlockSize {
		derived = append(derived, idMAC)
	}
	derived = appendBlocks(derived, salt)
	derived = appendBlocks(derived, append(bmpString(password), 0, 0))
	key := sha256.Sum256(derived)
	for range iterations - 1 {
		key = sha256.Sum256(key[:])
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(text)
	return mac.Sum(nil)
}

// appendBlocks repeats the text until it fills whole blocks of the hash.
func appendBlocks(to, text []byte) []byte {
	blocks := (len(text) + sha256.BlockSize - 1) / sha256.BlockSize
	for i := range blocks * sha256.BlockSize {
		to = append(to, text[i%len(text)])
	}
	return to
}

// bmpString is the text in UTF-16, most significant byte first.
func bmpString(text string) []byte {
	var encoded []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		encoded = append(encoded, byte(unit>>8), byte(unit))
	}
	return encoded
}

// explicit is the value of a content: an octet string behind the tag 0.
func explicit(text []byte) (asn1.RawValue, error) {
	octets, err := asn1.Marshal(text)
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: octets}, err
}

// unmarshalAll reads one value, with nothing behind it.
func unmarshalAll(text []byte, to any) error {
	rest, err := asn1.Unmarshal(text, to)
	if err == nil && len(rest) > 0 {
		err = errors.New("there is something behind its end")
	}
	return err
}
