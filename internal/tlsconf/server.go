package tlsconf

import (
	"crypto/tls"
	"errors"
)

// protocolName is PostgreSQL's ALPN name. libpq offers it on every TLS connection since version 17, and a server that
// names any other fails them all.
const protocolName = "postgresql"

// suites are those of TLS 1.2 that are served: ephemeral keys and authenticated encryption. Go orders them, and does
// not let those of TLS 1.3 be chosen.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// ClientAuth specifies whether clients are asked for a certificate. The verdict on it, and on its absence, is not the
// handshake's: see [ClientVerifier.Verify].
type ClientAuth uint8

// The zero value asks and requires.
const (
	Required ClientAuth = iota // asked for; the session refuses clients without one
	Optional                   // asked for; one that is presented has to be good
	Off                        // not asked for
)

// Server is what clients see of the proxy in the handshake.
type Server struct {
	Certificates []*Certificate // at least one
	Default      int            // index of the one for clients whose name is absent or unknown; out of range is 0
	ClientAuth   ClientAuth
	// ClientCAs tells clients whose certificates are welcome: those of its CAs, and of the CAs that issued these. Drivers
	// that hold several pick by it (JDBC). It decides nothing. Nil names nobody.
	ClientCAs  *ClientVerifier
	MinVersion uint16 // 0 is TLS 1.2, and so is anything below
}

// Config builds the configuration for all handshakes of one generation of the policy. The result must not be changed.
//
// The name that the client asks for (SNI) chooses among the certificates and changes nothing else: who is asked for a
// certificate, and who is verified, is the same for every name. An exact name goes before a wildcard, which stands
// for exactly one label; case is ignored; no name, an unknown one and an IP address get the default. A name with a
// trailing dot is not allowed in a ClientHello (RFC 6066 section 3), and crypto/tls refuses it. Where several
// certificates have the name, or share one with the default, the first that the client's algorithms allow is served,
// ECDSA before RSA, since signing with RSA costs several times as much.
func (s Server) Config() *tls.Config {
	choice := newCertSelector(s.Certificates, s.Default)
	config := &tls.Config{
		MinVersion:     max(s.MinVersion, tls.VersionTLS12),
		CipherSuites:   suites,
		NextProtos:     []string{protocolName},
		GetCertificate: choice.certificate,
		// Go's tickets are on by default and resume a session without presenting a certificate, revoked ones
		// included: CVE-2025-68121 was that, across a reload. PostgreSQL sets SSL_OP_NO_TICKET.
		SessionTicketsDisabled: true,
		// The relay chooses the size of records itself, for libpq's sake.
		DynamicRecordSizingDisabled: true,
	}
	if s.ClientAuth != Off {
		config.ClientAuth = tls.RequestClientCert
		config.VerifyConnection = checkPresented
		if s.ClientCAs != nil {
			config.ClientCAs = s.ClientCAs.acceptable
		}
	}
	return config
}

var errNoCertificate = errors.New("no server certificate is configured")
