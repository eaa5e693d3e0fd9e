package tlsconf

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"pgmtls-proxy/internal/pemkey"
)

// File is one input: its bytes, and the name that errors call it by.
type File struct {
	Name string
	Text []byte
}

// TrustFiles is what decides whose certificates are good.
type TrustFiles struct {
	CAs     []File     // PEM bundles; several CAs are a rotation's overlap
	CRLs    []File     // revocation lists, PEM (several in a file) or DER (one); none: nobody asks for them
	Revoked []*big.Int // serials of revoked certificates, of whatever issuer
}

// ClientVerifier judges client certificates: the CAs of one database's space, their revocation lists and revoked serials. It is
// immutable and safe for concurrent use. The system's root certificates play no part in it.
type ClientVerifier struct {
	roots         *x509.CertPool
	intermediates *x509.CertPool // the CAs that other CAs of the bundle issued
	acceptable    *x509.CertPool // whose names handshakes tell; nil: nobody's
	withoutHint   string         // for a client that sends no certificate
	cas           []*x509.Certificate
	issuers       []*issuer
	listsRequired bool
	revoked       map[string]bool // by the serial's bytes
	below         belowLists
	cache         *cache // of the chains that lead to the CAs
}

// issuer is a name with a key, in one or more certificates of the bundle. Revocation lists belong to it.
type issuer struct {
	subject, key []byte         // RawSubject, RawSubjectPublicKeyInfo
	name         string         // the subject, fit to be shown
	lists        []*revocations // newest first
}

func (i *issuer) is(cert *x509.Certificate) bool {
	return bytes.Equal(i.subject, cert.RawSubject) && bytes.Equal(i.key, cert.RawSubjectPublicKeyInfo)
}

// NewClientVerifier builds a ClientVerifier, or gives all problems of the inputs as joined [FileError]s.
//
// A CA of the bundle that another one of the bundle issued is an intermediate, so that its own revocation is seen; all
// others are trusted as they are, self-signed or not. Duplicates are tolerated; a CA below which no client certificate can ever be valid
// is not. An expired CA and a stale revocation
// list are no errors here, since time passes after loading too: [ClientVerifier.Verify] refuses by them. If there is any
// revocation list, every CA needs one, as for PostgreSQL (X509_V_FLAG_CRL_CHECK_ALL in be-secure-openssl.c). Lists of CAs that
// are not in the bundle are for clients that come with such a CA.
func NewClientVerifier(files TrustFiles) (*ClientVerifier, error) {
	t := &ClientVerifier{
		roots:         x509.NewCertPool(),
		intermediates: x509.NewCertPool(),
		listsRequired: len(files.CRLs) > 0,
		revoked:       make(map[string]bool, len(files.Revoked)),
		cache:         new(cache),
	}
	var problems []error
	for _, file := range files.CAs {
		if err := t.addCAs(file); err != nil {
			problems = append(problems, &FileError{file.Name, err})
		}
	}
	if len(problems) == 0 && len(t.cas) == 0 {
		problems = append(problems, errors.New("no CA certificate is given, so no client certificate could be accepted; add the CA that issues them"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...) // the revocation lists' problems would follow from these
	}
	if !t.anchor() {
		return nil, errors.New("every CA of client_ca was issued by another one of them; add the root CA")
	}
	if err := t.checkBundles(files.CAs); err != nil {
		return nil, err
	}
	for _, file := range files.CRLs {
		if err := t.addLists(file); err != nil {
			problems = append(problems, &FileError{file.Name, err})
		}
	}
	if len(problems) == 0 {
		problems = t.checkOlderLists()
	}
	if len(problems) == 0 && t.listsRequired {
		problems = t.checkCovered()
	}
	for _, serial := range files.Revoked {
		t.revoked[string(serial.Bytes())] = true
	}
	t.acceptable, t.withoutHint = caNames(t.cas), noCertificateHint(t.issuers)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

// checkCovered requires a list of every CA, and one that covers each CA that another one of the bundle issued.
func (t *ClientVerifier) checkCovered() []error {
	var problems []error
	for _, known := range t.issuers {
		if len(known.lists) == 0 {
			problems = append(problems, fmt.Errorf("there are revocation lists, but none of the CA %q, whose certificates could then not be checked; add its list to client_crl", known.name))
		}
	}
	for _, cert := range t.cas {
		for _, above := range t.cas {
			if selfSigned(cert) || !bytes.Equal(above.RawSubject, cert.RawIssuer) || cert.CheckSignatureFrom(above) != nil {
				continue
			}
			if known := t.issuer(above); len(known.lists) > 0 && known.known(cert).IsZero() {
				problems = append(problems, fmt.Errorf("no revocation list of the CA %q covers the CA %s, so no client below that one could come in: their issuing distribution points leave it out; add a list for CAs",
					known.name, subject(cert)))
			}
		}
	}
	return problems
}

func (t *ClientVerifier) addCAs(file File) error {
	certs, err := ParseCertificates(file.Text)
	if err != nil {
		return err
	}
	for i, cert := range certs {
		if err := checkCA(cert); err != nil {
			return fmt.Errorf("certificate %d, %s: %w", i+1, subject(cert), err)
		}
		t.addCA(cert)
	}
	return nil
}

func (t *ClientVerifier) addCA(cert *x509.Certificate) {
	for _, known := range t.cas {
		if known.Equal(cert) {
			return
		}
	}
	t.cas = append(t.cas, cert)
	if t.issuer(cert) == nil {
		t.issuers = append(t.issuers, &issuer{subject: cert.RawSubject, key: cert.RawSubjectPublicKeyInfo, name: display(cert.Subject.String())})
	}
}

// issuer returns the CA that the certificate is one of, or nil.
func (t *ClientVerifier) issuer(cert *x509.Certificate) *issuer {
	for _, known := range t.issuers {
		if known.is(cert) {
			return known
		}
	}
	return nil
}

// anchor divides the CAs into roots and intermediates, and reports whether there is a root.
func (t *ClientVerifier) anchor() bool {
	rooted := false
	for _, cert := range t.cas {
		if t.issued(cert) {
			t.intermediates.AddCert(cert)
			continue
		}
		rooted = true
		t.roots.AddCert(cert)
	}
	return rooted
}

// issued reports whether another CA of the bundle issued the certificate.
func (t *ClientVerifier) issued(cert *x509.Certificate) bool {
	if selfSigned(cert) {
		return false
	}
	for _, above := range t.cas {
		if bytes.Equal(above.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(above) == nil {
			return true
		}
	}
	return false
}

func checkCA(cert *x509.Certificate) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return errors.New("it is not the certificate of a CA (basic constraints); use the CA that issues the clients' certificates")
	}
	if hasKeyUsage(cert) && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("its key usage lacks keyCertSign, so certificates that it issues are not valid; issue it again with keyCertSign")
	}
	if err := checkIssuer(cert); err != nil {
		return err
	}
	if err := checkKey(cert.PublicKey); err != nil {
		return fmt.Errorf("%w; a CA with such a key can't be trusted", err)
	}
	return checkSignature(cert.SignatureAlgorithm)
}

// CAInfo describes a CA for status, metrics and the check command. Subject is fit to be shown.
type CAInfo struct {
	Subject             string
	Serial              string
	NotBefore, NotAfter time.Time
}

// HasKeyOf returns the subject of a CA whose private key is among the PEM blocks of a text, or is the text in DER. Keys that
// are encrypted are nobody's, as far as anybody can tell.
func (t *ClientVerifier) HasKeyOf(text []byte) (subject string, found bool) {
	if t == nil {
		return "", false
	}
	blocks := []*pem.Block{{Type: "PRIVATE KEY", Bytes: text}}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	for _, block := range blocks {
		key, err := pemkey.Parse([]*pem.Block{block})
		if err != nil {
			continue // no key, or none that can be read
		}
		for _, ca := range t.cas {
			if pemkey.Belongs(key, ca.PublicKey) {
				return display(ca.Subject.String()), true
			}
		}
	}
	return "", false
}

// CAs lists the CAs in the order of their files, without duplicates. A nil Trust has none.
func (t *ClientVerifier) CAs() []CAInfo {
	if t == nil {
		return nil
	}
	list := make([]CAInfo, 0, len(t.cas))
	for _, cert := range t.cas {
		list = append(list, CAInfo{display(cert.Subject.String()), FormatSerial(cert.SerialNumber), cert.NotBefore, cert.NotAfter})
	}
	return list
}
