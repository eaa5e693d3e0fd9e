package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Mode is how far the backend's certificate is verified, in libpq's words. There is no mode for plaintext: then there
// is no TLS configuration.
type Mode string

// The modes.
const (
	Require    Mode = "require"     // encrypted, to whoever answers
	VerifyCA   Mode = "verify-ca"   // issued by a CA of the bundle, for whatever name
	VerifyFull Mode = "verify-full" // and for the server's name
)

// BackendCA is the CA bundle's name in a [FileError].
const BackendCA = "ca"

// BackendTLS is how the proxy speaks TLS to PostgreSQL.
type BackendTLS struct {
	Mode      Mode
	CA        []byte // PEM bundle; needed to verify, and useless otherwise
	Cert, Key []byte // PEM, the proxy's own certificate with its chain; both or neither
	// ServerName is the name to verify and to ask for (SNI), or an IP address to verify. It is needed for VerifyFull.
	ServerName string
}

// Backend builds the configuration for connections to PostgreSQL, or gives all problems. Sessions are never resumed. The
// system's root certificates play no part in it.
//
// VerifyFull requires the name among the certificate's subject alternative names: unlike libpq, Go has no fallback on
// the common name.
func Backend(b BackendTLS) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		NextProtos:                  []string{protocolName},
		ServerName:                  b.ServerName,
		DynamicRecordSizingDisabled: true,
	}
	var problems []error
	pool, err := backendPool(b)
	if err != nil {
		problems = append(problems, err)
	}
	switch b.Mode {
	case Require:
		config.InsecureSkipVerify = true
	case VerifyCA:
		config.InsecureSkipVerify = true // the name's check is left out with it, the chain's is done below
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyCA(pool, state) }
	case VerifyFull:
		config.RootCAs = pool
		if b.ServerName == "" {
			problems = append(problems, errors.New("verify-full needs the name to verify; set server_name"))
		}
	default:
		problems = append(problems, fmt.Errorf("%s is not a TLS mode; use require, verify-ca or verify-full", quote(string(b.Mode))))
	}
	switch {
	case (len(b.Cert) > 0) != (len(b.Key) > 0):
		problems = append(problems, errors.New("a client certificate for the backend needs both cert and key; set both or neither"))
	case len(b.Cert) > 0:
		pair, err := parsePair(b.Cert, b.Key)
		if err != nil {
			problems = append(problems, err)
		} else {
			config.Certificates = []tls.Certificate{pair.tls}
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return config, nil
}

// backendPool reads the CA bundle. It may hold a server's self-signed certificate itself, as PostgreSQL's own
// documentation sets it up, so nothing in it has to be a CA.
func backendPool(b BackendTLS) (*x509.CertPool, error) {
	switch {
	case b.Mode == Require && len(b.CA) > 0:
		return nil, errors.New("require verifies nothing, so ca would be ignored; use verify-ca or verify-full, or remove ca")
	case b.Mode == Require:
		return nil, nil
	case len(b.CA) == 0 && (b.Mode == VerifyCA || b.Mode == VerifyFull):
		return nil, fmt.Errorf("%s needs the CA that issued the backend's certificate; set ca", b.Mode)
	case len(b.CA) == 0:
		return nil, nil
	}
	certs, err := ParseCertificates(b.CA)
	if err != nil {
		return nil, &FileError{BackendCA, err}
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

func verifyCA(pool *x509.CertPool, state tls.ConnectionState) error {
	intermediates := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates})
	if err != nil {
		return fmt.Errorf("verify the backend's certificate %s: %w", subject(state.PeerCertificates[0]), err)
	}
	return nil
}
