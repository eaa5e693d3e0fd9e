package tlsconf

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A CA that can let in nobody, whatever it issues, is a mistake that its operator would only learn of from clients. Whether it has
// expired is not asked here, since time passes after loading too.

// checkIssuer refuses a CA below which no client certificate can be valid, by what it says of itself.
func checkIssuer(cert *x509.Certificate) error {
	purposes := len(cert.ExtKeyUsage) + len(cert.UnknownExtKeyUsage)
	switch {
	case len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("it has the critical extension %v, which is not understood here, so no client certificate that it issues is valid; issue it again without, or not critical", cert.UnhandledCriticalExtensions[0])
	case purposes > 0 && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("it may not issue certificates for TLS clients: its extended key usage lacks clientAuth; use the CA that issues the clients' certificates, or issue this one again with clientAuth")
	}
	return nil
}

// checkChainsOfCAs refuses intermediates of the bundle below which no client certificate can be valid because of the CAs above them.
// A cross-signed CA has several certificates, one of which is enough.
func (t *ClientVerifier) checkChainsOfCAs(places map[*x509.Certificate][]place) error {
	for _, cert := range t.cas {
		if !t.issued(cert) {
			continue
		}
		err := t.everValid(cert)
		if err == nil || slices.ContainsFunc(t.cas, func(other *x509.Certificate) bool {
			return other != cert && sameCA(other, cert) && (!t.issued(other) || t.everValid(other) == nil)
		}) {
			continue
		}
		at := places[cert][0]
		return &FileError{at.file, fmt.Errorf("certificate %d, %s, can let in nobody: %w", at.index+1, subject(cert), err)}
	}
	return nil
}

// everValid returns why no certificate that a CA issues can be valid at any time; nil if one can, or if only times are against it. A chain
// that is ever valid is so at the moment when the last of its certificates begins.
func (t *ClientVerifier) everValid(cert *x509.Certificate) error {
	moments := []time.Time{cert.NotBefore}
	for _, other := range t.cas {
		if other.NotBefore.After(cert.NotBefore) && !other.NotBefore.After(cert.NotAfter) {
			moments = append(moments, other.NotBefore)
		}
	}
	var why error
	for _, moment := range moments {
		chains, err := verifyClient(cert, t.roots, t.intermediates, moment)
		for _, chain := range chains {
			if err = checkPathLengths(chain); err == nil {
				return nil
			}
		}
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
			switch invalid.Reason {
			case x509.IncompatibleUsage:
				err = errors.New("a CA above it may not issue certificates for TLS clients (extended key usage); use the right CA, or issue it again below another one")
			case x509.CANotAuthorizedForThisName:
				err = errors.New("it has a name that a CA above it does not allow (name constraints); issue it again without that name")
			case x509.TooManyIntermediates:
				err = tooDeep(invalid.Cert)
			case x509.Expired:
				continue
			}
		}
		if why == nil {
			why = err
		}
	}
	return why
}

// checkPathLengths refuses a chain that begins with a CA and has no room for a client's certificate below it.
func checkPathLengths(chain []*x509.Certificate) error {
	for below, cert := range chain {
		if cert.BasicConstraintsValid && cert.MaxPathLen >= 0 && below > cert.MaxPathLen {
			return tooDeep(cert)
		}
	}
	return nil
}

func tooDeep(cert *x509.Certificate) error {
	return fmt.Errorf("there are more CAs than %s allows below itself (path length %d); issue that one again with a greater path length, or none", subject(cert), cert.MaxPathLen)
}
