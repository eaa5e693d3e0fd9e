package tlsconf

import (
	"crypto/x509"
	"time"

	"pgmtls-proxy/internal/refusal"
)

// checkRevocation accepts a leaf if one of its chains has no revoked certificate and, if there are revocation lists, a
// list that is not out of date for every certificate below the root. Several chains exist while a CA is being replaced. If none will
// do, a revocation that is known goes before one that can't be known.
func (t *ClientVerifier) checkRevocation(chains [][]*x509.Certificate, now time.Time) *refusal.Refusal {
	var no *refusal.Refusal
	for _, chain := range chains {
		switch found := t.checkChain(chain, now); {
		case found == nil:
			return nil
		case no == nil || found.Reason == refusal.CertificateRevoked:
			no = found
		}
	}
	return no
}

func (t *ClientVerifier) checkChain(chain []*x509.Certificate, now time.Time) *refusal.Refusal {
	leaf := chain[0]
	var unknown *refusal.Refusal
	for i, cert := range chain[:len(chain)-1] {
		serial := cert.SerialNumber.Bytes()
		if t.revoked[string(serial)] {
			return revoked(leaf, cert)
		}
		if !t.listsRequired {
			continue
		}
		above := chain[i+1]
		known := t.issuer(above)
		if known == nil {
			known = t.below.of(above)
		}
		if known == nil || len(known.lists) == 0 {
			unknown = refusal.New(refusal.RevocationUnknown, "%s can't be checked: there is no revocation list of %s.", describe(leaf), subject(above))
			continue
		}
		if known.revoked(string(serial), now) {
			return revoked(leaf, cert)
		}
		switch end := known.known(cert); {
		case end.IsZero():
			unknown = refusal.New(refusal.RevocationUnknown, "%s can't be checked: the revocation lists of %s are for other certificates (issuing distribution point).", describe(leaf), subject(above))
		case now.After(end):
			unknown = refusal.New(refusal.RevocationUnknown, "%s can't be checked: the revocation list of %s is out of date since %s.", describe(leaf), subject(above), formatTime(end))
		}
	}
	return unknown
}

func revoked(leaf, cert *x509.Certificate) *refusal.Refusal {
	if cert.Equal(leaf) {
		return refusal.New(refusal.CertificateRevoked, "%s has been revoked.", describe(leaf))
	}
	return refusal.New(refusal.CertificateRevoked, "%s was issued by the CA %s, which has been revoked.", describe(leaf), subject(cert))
}
