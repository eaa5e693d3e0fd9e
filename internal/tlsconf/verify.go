package tlsconf

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgmtls-proxy/internal/refusal"
)

// Bounds of what a client may send. Real chains have two or three certificates; crypto/tls takes 256 KiB of them.
const (
	maxChain         = 20 // certificates; more are refused
	maxIntermediates = 5  // of them that crypto/x509 is given at once
	maxSameSubject   = 2  // of those that have one subject
)

// Verify is the verdict on the certificates that a client presented, leaf first and as crypto/tls parsed them, at the
// moment now. The handshake has proved that the client holds the leaf's key; everything else is decided here.
//
// In this order: the number of certificates, the leaf's purpose and strength, the chain to one of the CAs with all validity
// times and constraints, by way of strong certificates only, and revocation. Exactly one of the results is nil. The
// refusal's detail is for the client: the reason with the certificate's subject, serial and last moment.
func (t *ClientVerifier) Verify(chain []*x509.Certificate, now time.Time) (*Identity, *refusal.Refusal) {
	switch {
	case len(chain) == 0:
		no := refusal.New(refusal.NoClientCertificate, "The client sent no certificate.")
		if t != nil {
			no.Hint = t.withoutHint
		}
		return nil, no
	case len(chain) > maxChain:
		return nil, refusal.New(refusal.CertificateInvalid, "The client sent %d certificates. At most %d are accepted.", len(chain), maxChain)
	}
	known, no := t.verified(chain, now)
	if no == nil {
		no = t.checkRevocation(known.chains, now)
	}
	if no != nil {
		return nil, no
	}
	return known.identity, nil
}

// verified is everything in a verdict but revocation. The search for a chain is most of its cost, and is remembered.
func (t *ClientVerifier) verified(chain []*x509.Certificate, now time.Time) (*verifiedChain, *refusal.Refusal) {
	leaf := chain[0]
	if no := checkPurpose(leaf); no != nil {
		return nil, no
	}
	if err := tooWeak(leaf, true); err != nil {
		return nil, refusal.New(refusal.CertificateWeakKey, "%s is too weak: %v.", describe(leaf), err)
	}
	if t == nil {
		return nil, untrusted(leaf, leaf)
	}
	sent, weak := t.above(leaf, chain[1:])
	key := newCacheKey(leaf, sent)
	if known := t.cache.at(key, now); known != nil {
		return known, nil
	}
	chains, no := t.verify(leaf, sent, now)
	if no != nil && weak != nil {
		no = weak // the chain may end where the weak certificate belongs
	}
	if no != nil {
		return nil, no
	}
	remember := detach(chains, chain)
	known := newVerifiedChain(newIdentity(chains[0][0]), chains)
	if remember {
		t.cache.add(key, known)
	}
	return known, nil
}

// checkPurpose refuses leaves that were not issued for TLS clients, which Go's verification lets pass: those without an
// extended key usage and those for any. Only an explicit clientAuth shows that the CA meant it. The key signs in the
// handshake, so a key usage has to allow that (RFC 5280 section 4.2.1.3, RFC 8446 section 4.4.2.4).
func checkPurpose(leaf *x509.Certificate) *refusal.Refusal {
	fault := ""
	switch {
	case leaf.IsCA:
		fault = "is the certificate of a CA, not of a client"
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0:
		fault = "has no extended key usage, and clientAuth is required"
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		fault = "is not for TLS clients: its extended key usage lacks clientAuth"
	case hasKeyUsage(leaf) && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		fault = "may not sign: its key usage lacks digitalSignature"
	default:
		return nil
	}
	return refusal.New(refusal.CertificateWrongPurpose, "%s %s.", describe(leaf), fault)
}

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// hasKeyUsage distinguishes a certificate without a key usage, which may do everything, from one whose key usage is empty.
func hasKeyUsage(cert *x509.Certificate) bool {
	for i := range cert.Extensions {
		if cert.Extensions[i].Id.Equal(oidKeyUsage) {
			return true
		}
	}
	return false
}

// tooWeak returns why nobody may rely on the key of a certificate or, unless it is a root, on the signature under it.
func tooWeak(cert *x509.Certificate, leaf bool) error {
	if err := checkKey(cert.PublicKey); err != nil {
		return err
	}
	if !leaf && selfSigned(cert) {
		return nil
	}
	return checkSignature(cert.SignatureAlgorithm)
}

// above returns the certificates behind the leaf that can be above it by their names, in the order in which they came, each
// once. Weak ones are left out before anything is computed with them, since what an oversized key costs is the client's
// choice; the refusal names the first of them, for a leaf that has no chain without it.
func (t *ClientVerifier) above(leaf *x509.Certificate, sent []*x509.Certificate) ([]*x509.Certificate, *refusal.Refusal) {
	if len(sent) == 0 {
		return nil, nil
	}
	var weak *refusal.Refusal
	strong := make([]*x509.Certificate, 0, maxChain) // stays on the stack
	for _, cert := range sent {
		if err := tooWeak(cert, false); err == nil {
			strong = append(strong, cert)
		} else if weak == nil {
			weak = refusal.New(refusal.CertificateWeakKey, "%s came with %s, which can't be accepted: %v.", describe(leaf), subject(cert), err)
		}
	}
	reached := make([]bool, len(strong))
	for names := append(make([][]byte, 0, maxChain), leaf.RawIssuer); len(names) > 0; names = names[1:] {
		for i, cert := range strong {
			if !reached[i] && bytes.Equal(cert.RawSubject, names[0]) {
				reached[i] = true
				names = append(names, cert.RawIssuer)
			}
		}
	}
	use := make([]*x509.Certificate, 0, len(strong))
	for i, cert := range strong {
		if reached[i] && !slices.ContainsFunc(use, cert.Equal) {
			use = append(use, cert)
		}
	}
	return use, weak
}

// verify finds the chains from the leaf to the CAs, by way of the sent certificates.
func (t *ClientVerifier) verify(leaf *x509.Certificate, sent []*x509.Certificate, now time.Time) ([][]*x509.Certificate, *refusal.Refusal) {
	if !straight(sent) {
		switch found := t.findPaths(leaf, sent, now); {
		case len(found.chains) > 0:
			return found.chains, nil
		case found.err != nil:
			return nil, explain(found.err, leaf, now)
		}
		sent = t.telling(sent)
	}
	intermediates := t.intermediates
	if len(sent) > 0 {
		intermediates = t.intermediates.Clone()
		for _, cert := range sent {
			intermediates.AddCert(cert)
		}
	}
	chains, err := verifyClient(leaf, t.roots, intermediates, now)
	if err != nil {
		return nil, explain(err, leaf, now)
	}
	return chains, nil
}

// verifyClient is what x509.Verify says of a client's certificate. The roots are never nil: nil would mean the system's.
func verifyClient(leaf *x509.Certificate, roots, intermediates *x509.CertPool, now time.Time) ([][]*x509.Certificate, error) {
	return leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// straight reports whether x509.Verify can be given the certificates as they are: they are few, and no two have one subject,
// so each has one place. Otherwise it might compute for long: ten certificates of one name that all may have issued one
// another cost a stranger nothing and us dozens of signatures, 180 ms with P-521.
func straight(sent []*x509.Certificate) bool {
	for i, cert := range sent {
		if slices.ContainsFunc(sent[:i], func(other *x509.Certificate) bool { return bytes.Equal(other.RawSubject, cert.RawSubject) }) {
			return false
		}
	}
	return len(sent) <= maxIntermediates
}

// telling chooses among certificates by which no path leads to a CA those that x509.Verify is given to say why: a few, those
// that a known CA may have issued first, and of one subject and key a single one.
func (t *ClientVerifier) telling(sent []*x509.Certificate) []*x509.Certificate {
	use := make([]*x509.Certificate, 0, maxIntermediates)
	for _, wanted := range []bool{true, false} {
		for _, cert := range sent {
			if t.knows(cert.RawIssuer) != wanted {
				continue
			}
			count, again := 0, false
			for _, used := range use {
				if bytes.Equal(used.RawSubject, cert.RawSubject) {
					count++
					again = again || sameCA(used, cert)
				}
			}
			if !again && count < maxSameSubject && len(use) < maxIntermediates {
				use = append(use, cert)
			}
		}
	}
	return use
}

// knows reports whether a CA has the name.
func (t *ClientVerifier) knows(rawSubject []byte) bool {
	return slices.ContainsFunc(t.issuers, func(i *issuer) bool { return bytes.Equal(i.subject, rawSubject) })
}

// explain turns an error of x509.Verify into a refusal.
func explain(err error, leaf *x509.Certificate, now time.Time) *refusal.Refusal {
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return untrusted(leaf, unknown.Cert)
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok {
		if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
			return refusal.New(refusal.CertificateInvalid, "%s, or its issuer, has a critical extension that is unknown here.", describe(leaf))
		}
		return refusal.New(refusal.CertificateInvalid, "%s has no chain of certificates that can be verified.", describe(leaf))
	}
	switch invalid.Reason {
	case x509.Expired:
		return outOfTime(leaf, invalid.Cert, now)
	case x509.IncompatibleUsage:
		return refusal.New(refusal.CertificateWrongPurpose, "%s was issued by a CA that may not issue certificates for TLS clients.", describe(leaf))
	case x509.NotAuthorizedToSign:
		return refusal.New(refusal.CertificateInvalid, "%s was issued by %s, which is not the certificate of a CA.", describe(leaf), subject(invalid.Cert))
	case x509.TooManyIntermediates:
		return refusal.New(refusal.CertificateInvalid, "%s has more CAs above it than %s allows (path length).", describe(leaf), subject(invalid.Cert))
	case x509.CANotAuthorizedForThisName:
		return refusal.New(refusal.CertificateInvalid, "%s has a name that its CA may not issue certificates for (name constraints).", describe(leaf))
	}
	return refusal.New(refusal.CertificateInvalid, "%s is not valid for this server.", describe(leaf))
}

// outOfTime refuses a leaf because it, or a certificate above it, is not valid at the moment.
func outOfTime(leaf, cert *x509.Certificate, now time.Time) *refusal.Refusal {
	switch {
	case cert == nil || cert.Equal(leaf):
		if now.Before(leaf.NotBefore) {
			return refusal.New(refusal.CertificateNotYetValid, "%s is not valid before %s.", describe(leaf), formatTime(leaf.NotBefore))
		}
		return refusal.New(refusal.CertificateExpired, "%s has expired.", describe(leaf))
	case now.Before(cert.NotBefore):
		return refusal.New(refusal.CertificateNotYetValid, "%s was issued by the CA %s, which is not valid before %s.", describe(leaf), subject(cert), formatTime(cert.NotBefore))
	}
	return refusal.New(refusal.CertificateExpired, "%s was issued by the CA %s, which expired at %s.", describe(leaf), subject(cert), formatTime(cert.NotAfter))
}

// untrusted refuses a leaf because the issuer of the top certificate is not known.
func untrusted(leaf, top *x509.Certificate) *refusal.Refusal {
	issuer := "an issuer without a name"
	if len(top.Issuer.Names) > 0 {
		issuer = quote(top.Issuer.String())
	}
	if top.Equal(leaf) {
		return refusal.New(refusal.CertificateUnknownCA, "%s was issued by %s, which this server does not trust.", describe(leaf), issuer)
	}
	return refusal.New(refusal.CertificateUnknownCA, "%s leads to %s, which this server does not trust.", describe(leaf), issuer)
}

// describe names a client certificate as details do.
func describe(cert *x509.Certificate) string {
	return fmt.Sprintf("Client certificate %s (serial %s, valid until %s)", subject(cert), FormatSerial(cert.SerialNumber), formatTime(cert.NotAfter))
}
