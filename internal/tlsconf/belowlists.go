package tlsconf

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"sync"
)

// maxBelow bounds the CAs whose lists are remembered.
const maxBelow = 256

// belowLists has the revocation lists of CAs that are not in client_ca: those of the intermediates that clients send. Who signed them
// is seen when a chain with such a CA was found good. The zero value is ready; safe for concurrent use once the lists are added.
type belowLists struct {
	issuers []*issuer // by name alone

	mu   sync.Mutex
	seen map[digest]*belowIssuer // by the CA's certificate
}

// belowIssuer has the lists that one CA signed.
type belowIssuer struct {
	once   sync.Once // verifying a signature of a large list takes milliseconds
	signed issuer
}

func (b *belowLists) add(list *revocations) {
	i := slices.IndexFunc(b.issuers, func(i *issuer) bool { return bytes.Equal(i.subject, list.list.RawIssuer) })
	if i < 0 {
		i = len(b.issuers)
		b.issuers = append(b.issuers, &issuer{subject: list.list.RawIssuer, name: display(list.list.Issuer.String())})
	}
	b.issuers[i].add(list)
}

// of returns the lists of a CA, whose certificate is part of a verified chain; nil without any.
func (b *belowLists) of(ca *x509.Certificate) *issuer {
	i := slices.IndexFunc(b.issuers, func(i *issuer) bool { return bytes.Equal(i.subject, ca.RawSubject) })
	if i < 0 {
		return nil
	}
	key := sha256.Sum256(ca.Raw)
	b.mu.Lock()
	known := b.seen[key]
	if known == nil {
		if b.seen == nil || len(b.seen) >= maxBelow {
			b.seen = make(map[digest]*belowIssuer)
		}
		known = new(belowIssuer)
		b.seen[key] = known
	}
	b.mu.Unlock()
	known.once.Do(func() {
		for _, list := range b.issuers[i].lists { // newest first
			if list.list.CheckSignatureFrom(ca) == nil {
				known.signed.lists = append(known.signed.lists, list)
			}
		}
	})
	return &known.signed
}
