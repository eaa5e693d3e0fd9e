package tlsconf

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"
)

// Bounds of the search for paths among several certificates of one subject, as cross-signed CAs have them (RFC 4158).
const (
	maxSignatureChecks = 64  // signatures that are verified, those of the found paths included
	maxSearchSteps     = 500 // certificates that are tried as the next one of a path
)

// pathSearch finds the paths from a leaf to the roots. crypto/x509 tries every order of the certificates that it is given,
// from the leaf up, with the keys that a stranger chose. This search begins at the roots: it verifies only signatures that
// are said to be by a key which a root has vouched for, each once, so that certificates of nobody cost nearly nothing. It
// decides nothing: x509.Verify judges each path.
type pathSearch struct {
	t       *ClientVerifier
	leaf    *x509.Certificate
	now     time.Time
	checks  int                                       // signatures that may still be verified
	steps   int                                       // certificates that may still be tried
	parents map[*x509.Certificate][]*x509.Certificate // verified issuers of the leaf and of what is above it
	chains  [][]*x509.Certificate
	err     error // of the first path that is no good
}

// findPaths finds the valid chains by way of the sent certificates and the policy's intermediates: all of them, or as many
// as the bounds allow. Without any, err is that of the first path, nil if there is none at all.
func (t *ClientVerifier) findPaths(leaf *x509.Certificate, sent []*x509.Certificate, now time.Time) *pathSearch {
	s := &pathSearch{t: t, leaf: leaf, now: now, checks: maxSignatureChecks, steps: maxSearchSteps,
		parents: make(map[*x509.Certificate][]*x509.Certificate)}
	var roots, between []*x509.Certificate
	for _, cert := range t.cas {
		if t.issued(cert) {
			between = append(between, cert)
		} else {
			roots = append(roots, cert)
		}
	}
	for _, cert := range sent {
		if mayIssueClients(cert, now) && !slices.ContainsFunc(t.cas, cert.Equal) {
			between = append(between, cert)
		}
	}
	s.connect(roots, between)
	s.climb([]*x509.Certificate{leaf}, roots)
	return s
}

// mayIssueClients reports whether a certificate can stand between a root and a client at the moment. It leaves out what every
// path would be refused for.
func mayIssueClients(cert *x509.Certificate, now time.Time) bool {
	purposes := len(cert.ExtKeyUsage) + len(cert.UnknownExtKeyUsage)
	return cert.BasicConstraintsValid && cert.IsCA && len(cert.UnhandledCriticalExtensions) == 0 &&
		(!hasKeyUsage(cert) || cert.KeyUsage&x509.KeyUsageCertSign != 0) &&
		(purposes == 0 || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)) &&
		!now.Before(cert.NotBefore) && !now.After(cert.NotAfter)
}

// connect fills in the verified issuers, from the roots down.
func (s *pathSearch) connect(roots, between []*x509.Certificate) {
	type signedBy struct {
		cert *x509.Certificate
		key  string
	}
	verified := make(map[signedBy]bool) // cross-signed CAs have the same key in several certificates
	known := slices.Clone(roots)        // with a path to a root, and able to issue
	below := append(slices.Clone(between), s.leaf)
	for i := 0; i < len(known); i++ {
		issuer := known[i]
		for _, cert := range below {
			if cert == issuer || !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
				continue
			}
			at := signedBy{cert, string(issuer.RawSubjectPublicKeyInfo)}
			genuine, again := verified[at]
			if !again {
				if s.checks == 0 {
					return
				}
				s.checks--
				genuine = issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
				verified[at] = genuine
			}
			if !genuine {
				continue
			}
			s.parents[cert] = append(s.parents[cert], issuer)
			if cert != s.leaf && !slices.Contains(known, cert) {
				known = append(known, cert)
			}
		}
	}
}

// climb tries every path that goes on from the end of one. No name appears with the same key twice in a path.
func (s *pathSearch) climb(path, roots []*x509.Certificate) {
	for _, issuer := range s.parents[path[len(path)-1]] {
		if s.steps == 0 {
			return
		}
		s.steps--
		if slices.ContainsFunc(path, func(below *x509.Certificate) bool { return sameCA(below, issuer) }) {
			continue
		}
		longer := append(path[:len(path):len(path)], issuer)
		if slices.Contains(roots, issuer) {
			s.judge(longer)
		} else {
			s.climb(longer, roots)
		}
	}
}

// judge has one path verified with everything that belongs to it.
func (s *pathSearch) judge(path []*x509.Certificate) {
	if s.checks < len(path) {
		s.steps = 0
		return
	}
	s.checks -= len(path) // one for each certificate but the root, at most
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(path[len(path)-1])
	for _, cert := range path[1 : len(path)-1] {
		between.AddCert(cert)
	}
	chains, err := verifyClient(s.leaf, roots, between, s.now)
	if err != nil && s.err == nil {
		s.err = err
	}
	for _, chain := range chains {
		same := func(other []*x509.Certificate) bool { return slices.EqualFunc(chain, other, (*x509.Certificate).Equal) }
		if !slices.ContainsFunc(s.chains, same) {
			s.chains = append(s.chains, chain)
		}
	}
}

// sameCA reports whether two certificates are of one name and key.
func sameCA(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}
