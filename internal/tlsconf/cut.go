package tlsconf

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
)

// place is where in its file a certificate or a revocation list stands, counted from 0. The first of a file is never
// lost unnoticed, since an empty file is refused. A later one is, when the file is cut exactly between two blocks:
// see [readPEM]. So nothing that restricts may stand where its loss would let in more.
type place struct {
	file  string
	index int
}

// checkBundles requires each CA that issued another of the bundle where it can't be lost without that other: an
// intermediate that lost the CA above it would be trusted by itself, whatever the lost one says of it by its end, its
// name constraints or its revocation list.
func (t *ClientVerifier) checkBundles(files []File) error {
	places := make(map[*x509.Certificate][]place, len(t.cas))
	for _, file := range files {
		certs, err := ParseCertificates(file.Text)
		if err != nil {
			return &FileError{file.Name, err}
		}
		for i, cert := range certs {
			for _, known := range t.cas {
				if known.Equal(cert) {
					places[known] = append(places[known], place{file.Name, i})
				}
			}
		}
	}
	for _, cert := range t.cas {
		if !t.issued(cert) {
			continue
		}
		for _, below := range places[cert] {
			if !t.anchoredAt(cert, below, places) {
				return &FileError{below.file, fmt.Errorf("certificate %d, %s, stands before the CA that issued it, without which it would be trusted by itself if the file lost its end; put the issuing CA first",
					below.index+1, subject(cert))}
			}
		}
	}
	return t.checkChainsOfCAs(places)
}

// anchoredAt reports whether a CA that issued the certificate is there whenever the certificate is at this place.
func (t *ClientVerifier) anchoredAt(cert *x509.Certificate, at place, places map[*x509.Certificate][]place) bool {
	for _, above := range t.cas {
		if !bytes.Equal(above.RawSubject, cert.RawIssuer) || cert.CheckSignatureFrom(above) != nil {
			continue
		}
		for _, p := range places[above] {
			if p.index == 0 || p.file == at.file && p.index < at.index {
				return true
			}
		}
	}
	return false
}

// checkOlderLists requires each of several lists of a CA at the start of its file: if a newer one got lost, an older one
// would be in force again and let in whom the newer one revokes. A CA whose only list got lost is noticed anyway.
func (t *ClientVerifier) checkOlderLists() []error {
	var problems []error
	for _, known := range slices.Concat(t.issuers, t.below.issuers) {
		if len(known.lists) < 2 {
			continue
		}
		for _, list := range known.lists {
			if list.place.index == 0 {
				continue
			}
			problems = append(problems, &FileError{list.place.file, fmt.Errorf("revocation list %d is one of several of the CA %q: if the file lost its end, an older one would count again; put it into a file of its own, or remove the older ones",
				list.place.index+1, known.name)})
		}
	}
	return problems
}
