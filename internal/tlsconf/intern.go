package tlsconf

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"runtime"
	"sync"
	"weak"
)

// interned are the clients' certificates that some session holds, by their fingerprints. An entry goes with the last session.
var interned sync.Map // digest to weak.Pointer[x509.Certificate]

// Intern replaces certificates by those of the same bytes that have been interned before. crypto/tls parses a client's
// certificates anew for every connection, about 3 KiB each, and keeps them as long as the connection lives; an application's
// sessions come with the same ones.
//
// Given the slice of a [crypto/tls.ConnectionState], it replaces those that the connection holds, since the two share it.
// It is to be called before another goroutine may ask the connection for its state. No certificate may be modified.
func Intern(chain []*x509.Certificate) {
	for i, cert := range chain {
		chain[i] = intern(cert)
	}
}

func intern(cert *x509.Certificate) *x509.Certificate {
	key := digest(sha256.Sum256(cert.Raw))
	made := weak.Make(cert)
	for {
		found, loaded := interned.LoadOrStore(key, made)
		if loaded {
			held := found.(weak.Pointer[x509.Certificate])
			if known := held.Value(); known != nil {
				if bytes.Equal(known.Raw, cert.Raw) {
					return known
				}
				return cert
			}
			if !interned.CompareAndSwap(key, held, made) {
				continue // somebody else has interned it at this moment
			}
		}
		runtime.AddCleanup(cert, func(key digest) { interned.CompareAndDelete(key, made) }, key)
		return cert
	}
}
