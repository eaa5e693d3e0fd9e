// Package seal encrypts the secrets of the control plane under its master keys, for as long as they are kept.
//
// It is not a key store: keys come from a file that the administrator keeps apart from the records, and stay in memory.
// It knows neither where records are kept nor what is in them. It stands between whoever makes a secret and the store:
// what leaves Seal may be written to a disk, to a backup, or to an etcd that others run.
//
// A sealed record is
//
//	version   1 byte, 0x01
//	key id    8 bytes, the beginning of a hash of the key that sealed it
//	place     8 bytes, the beginning of a hash of the context
//	nonce     12 bytes, random
//	text      as long as the plain one, and the tag of 16 bytes
//
// in AES-256-GCM (NIST SP 800-38D), with version, key id, place and the whole context as additional data. So a record
// opens only under the context that it was sealed with, and nobody who can write to the store can put one database's
// key in the place of another's. Random nonces allow 2^32 records for each key, by section 8.3 there.
package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// What is wrong with a record that does not open. Match them with errors.Is.
var (
	// ErrFormat: the bytes are no sealed record, or one of a later version of this program.
	ErrFormat = errors.New("not a sealed record, or one that this version can't read")
	// ErrUnknownKey: no key of the ring sealed it.
	ErrUnknownKey = errors.New("sealed under a master key that is not in the key file; add that key's line back to the file")
	// ErrMoved: it is a record, but was sealed for another context.
	ErrMoved = errors.New("sealed for another location than the one where it was found; restore it from a backup")
	// ErrTampered: its bytes are not the ones that were sealed.
	ErrTampered = errors.New("modified since it was sealed; restore it from a backup")
)

const (
	version    = 1
	idSize     = 8
	placeSize  = 8
	headerSize = 1 + idSize + placeSize
)

// Overhead is how many bytes a sealed record is longer than its plain text.
const Overhead = headerSize + nonceSize + tagSize

const (
	nonceSize = 12
	tagSize   = 16
)

// Seal encrypts under the first key of the ring. The context is the place where the record will be kept, its key in the
// store; it is not a secret, and Open needs the same. The plain text is left alone, and is not kept.
func (r *Ring) Seal(context string, plain []byte) []byte {
	key := r.keys[0]
	header := header(key.id, context)
	sealed := make([]byte, 0, Overhead+len(plain))
	sealed = append(sealed, header...)
	return key.aead.Seal(sealed, nil, plain, additional(header, context))
}

// Open decrypts what Seal made for the same context, under whichever key of the ring sealed it. The errors are
// ErrFormat, ErrUnknownKey, ErrMoved and ErrTampered, wrapped with the context.
//
// ErrMoved and ErrTampered tell an accident from another one; against whoever means harm both say only that nothing was
// opened.
func (r *Ring) Open(context string, sealed []byte) ([]byte, error) {
	plain, err := r.open(context, sealed)
	if err != nil {
		return nil, fmt.Errorf("open sealed record %q: %w", context, err)
	}
	return plain, nil
}

func (r *Ring) open(context string, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return nil, ErrFormat
	}
	found, text := sealed[:headerSize], sealed[headerSize:]
	key := r.find(found)
	if key == nil {
		return nil, fmt.Errorf("%w (key id %x)", ErrUnknownKey, found[1:1+idSize])
	}
	if !bytes.Equal(found, header(key.id, context)) {
		return nil, ErrMoved
	}
	plain, err := key.aead.Open(nil, nil, text, additional(found, context))
	if err != nil {
		return nil, ErrTampered
	}
	return plain, nil
}

// Stale reports whether a record should be sealed again, since another key than the first of the ring sealed it. Once
// no record is stale, the other keys' lines can be removed from the file.
func (r *Ring) Stale(sealed []byte) bool {
	return len(sealed) < headerSize || r.find(sealed[:headerSize]) != &r.keys[0]
}

// find returns the key that a header names, or nil.
func (r *Ring) find(header []byte) *key {
	i := slices.IndexFunc(r.keys, func(k key) bool { return bytes.Equal(k.id[:], header[1:1+idSize]) })
	if i < 0 {
		return nil
	}
	return &r.keys[i]
}

// key is one master key, ready for use. Its bytes are not kept beside the cipher.
type key struct {
	id   [idSize]byte
	aead cipher.AEAD // with random nonces, which it puts before the text
}

func header(id [idSize]byte, context string) []byte {
	place := sha256.Sum256([]byte("pgmtls seal place\x00" + context))
	h := make([]byte, 0, headerSize)
	h = append(h, version)
	h = append(h, id[:]...)
	return append(h, place[:placeSize]...)
}

// additional is what is authenticated beside the text. The header is of a fixed length, so no two pairs of header and
// context give the same bytes.
func additional(header []byte, context string) []byte {
	return append(slices.Clip(header), context...)
}
