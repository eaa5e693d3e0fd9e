package tlsconf

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"strings"
	"time"

	"pgmtls-proxy/internal/safetext"
)

// Identity is who a client is by its certificate, once the certificate was found good.
//
// Subject, Issuer and Serial are fit to be shown. CommonName, DNSNames and URIs are what the certificate holds, byte by
// byte, since rules are compared with them: clean them before they are logged.
type Identity struct {
	Subject, Issuer string // RFC 4514
	// CommonName is empty if the subject has none, or several: which of them counts would be a matter of taste.
	CommonName          string
	DNSNames, URIs      []string
	Serial              string // see [FormatSerial]
	NotBefore, NotAfter time.Time
	// Until is the last moment for which the verdict was given: behind it a certificate of the chain has expired, and
	// [ClientVerifier.Verify] has to be asked again. Revocation lists that go out of date don't count.
	Until       time.Time
	Fingerprint [sha256.Size]byte // SHA-256 of the certificate
}

func newIdentity(cert *x509.Certificate) *Identity {
	id := &Identity{
		Subject:     display(cert.Subject.String()),
		Issuer:      display(cert.Issuer.String()),
		DNSNames:    cert.DNSNames,
		Serial:      FormatSerial(cert.SerialNumber),
		NotBefore:   cert.NotBefore,
		NotAfter:    cert.NotAfter,
		Fingerprint: sha256.Sum256(cert.Raw),
	}
	names := 0
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.String() == "2.5.4.3" {
			names++
		}
	}
	if names == 1 {
		id.CommonName = cert.Subject.CommonName
	}
	for _, uri := range cert.URIs {
		id.URIs = append(id.URIs, uri.String())
	}
	return id
}

// HasDNS reports whether the certificate has the DNS name, in whatever case. Wildcards in either stand for themselves.
func (id *Identity) HasDNS(name string) bool {
	for _, has := range id.DNSNames {
		if strings.EqualFold(has, name) {
			return true
		}
	}
	return false
}

// HasURI reports whether the certificate has exactly the URI.
func (id *Identity) HasURI(uri string) bool {
	for _, has := range id.URIs {
		if has == uri {
			return true
		}
	}
	return false
}

// FormatSerial writes a serial number as policy.yaml does, in lower-case pairs of hexadecimal digits with colons between
// them: "1f:0a". Serials of more than 40 bytes, twice what RFC 5280 allows, are cut.
func FormatSerial(serial *big.Int) string {
	const most = 40
	bytes := serial.Bytes()
	if len(bytes) == 0 {
		return "00"
	}
	text := make([]byte, 0, 3*min(len(bytes), most)+len("…"))
	for i, b := range bytes {
		if i == most {
			text = append(text, "…"...)
			break
		}
		if i > 0 {
			text = append(text, ':')
		}
		text = hex.AppendEncode(text, []byte{b})
	}
	return string(text)
}

// maxSubject bounds a distinguished name that is shown, in bytes.
const maxSubject = 256

func display(name string) string { return safetext.Escape(name, maxSubject) }
