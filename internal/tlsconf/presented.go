package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// maxPresented bounds what the certificates of a client take in memory once they are parsed, in bytes. A certificate of many
// short names takes twenty times of what it has on the wire, for as long as its connection lasts.
const maxPresented = 96 << 10

// checkPresented is a [tls.Config]'s VerifyConnection. It decides nothing about trust: it ends the handshake of a client
// whose certificates would take too much memory, before anything waits for that client again.
func checkPresented(state tls.ConnectionState) error {
	size := len(state.OCSPResponse) + 64*len(state.SignedCertificateTimestamps)
	for _, cert := range state.PeerCertificates {
		size += parsedSize(cert)
	}
	if size > maxPresented {
		return fmt.Errorf("the client's %d certificates take more than %d KiB of memory", len(state.PeerCertificates), maxPresented>>10)
	}
	return nil
}

// parsedSize estimates the memory of a parsed certificate, in bytes.
func parsedSize(cert *x509.Certificate) int {
	const text, network, location = 48, 96, 176 // an item of a list, with what it points to
	size := 2<<10 + 2*len(cert.Raw)
	for _, name := range cert.Subject.Names {
		size += text + oidSize(name.Type)
	}
	for _, name := range cert.Issuer.Names {
		size += text + oidSize(name.Type)
	}
	for i := range cert.Extensions {
		size += text + oidSize(cert.Extensions[i].Id)
	}
	for _, list := range [][]asn1.ObjectIdentifier{cert.UnknownExtKeyUsage, cert.PolicyIdentifiers, cert.UnhandledCriticalExtensions} {
		for _, oid := range list {
			size += oidSize(oid)
		}
	}
	for _, list := range [][]string{cert.DNSNames, cert.EmailAddresses, cert.OCSPServer, cert.IssuingCertificateURL, cert.CRLDistributionPoints,
		cert.PermittedDNSDomains, cert.ExcludedDNSDomains, cert.PermittedEmailAddresses, cert.ExcludedEmailAddresses,
		cert.PermittedURIDomains, cert.ExcludedURIDomains} {
		size += text * len(list)
	}
	size += text * (len(cert.IPAddresses) + len(cert.ExtKeyUsage) + len(cert.Policies) + 2*len(cert.PolicyMappings))
	size += network * (len(cert.PermittedIPRanges) + len(cert.ExcludedIPRanges))
	return size + location*len(cert.URIs)
}

// oidSize is the memory of an object identifier: a word for each of its numbers, which may have a byte each.
func oidSize(oid asn1.ObjectIdentifier) int { return 32 + 8*len(oid) }
