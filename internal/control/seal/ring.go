package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"pgmtls-proxy/internal/safetext"
)

const (
	keySize = 32 // AES-256

	// maxText and maxKeys bound what a key file may hold. A file that is larger is another file.
	maxText = 64 << 10
	maxKeys = 64
)

// Ring is a list of master keys: the first seals, and all of them open, so that a key can be replaced while records of
// the old one are still there. It does not change, and its methods may be called from any goroutine.
type Ring struct {
	keys []key // never empty
}

// Generate makes a new master key, as the text of a key file: one line.
func Generate() []byte {
	secret := make([]byte, keySize)
	rand.Read(secret) // never gives an error: crypto/rand ends the program first
	defer clear(secret)
	return append(base64.StdEncoding.AppendEncode(nil, secret), '\n')
}

// ParseRing reads a key file: on each line 32 bytes in standard base64. Empty lines, and lines that start with # are
// left out. Errors name a line, never what is in it.
func ParseRing(text []byte) (*Ring, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("key file is longer than %d bytes; one line of 44 characters for each key is enough", maxText)
	}
	var ring Ring
	number := 0
	for line := range bytes.Lines(safetext.WithoutMark(text)) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		next, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d of the key file: %w", number, err)
		}
		if slices.ContainsFunc(ring.keys, func(k key) bool { return k.id == next.id }) {
			return nil, fmt.Errorf("line %d of the key file: duplicate key; remove one of the two lines", number)
		}
		if len(ring.keys) == maxKeys {
			return nil, fmt.Errorf("line %d of the key file: more than %d keys; remove those that no longer seal anything", number, maxKeys)
		}
		ring.keys = append(ring.keys, next)
	}
	if len(ring.keys) == 0 {
		return nil, errors.New("key file has no key; " + remedy)
	}
	return &ring, nil
}

// remedy is for a key that can't be used. A new one opens nothing that is sealed.
const remedy = "restore the line from your copy of the key; only for a store that is still to be made, generate one with: openssl rand -base64 32"

func parseKey(line []byte) (key, error) {
	secret := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	defer clear(secret)
	n, err := base64.StdEncoding.Strict().Decode(secret, line)
	if err != nil {
		// The error of base64 tells where the key has which character.
		return key{}, errors.New("not base64; " + remedy)
	}
	if n != keySize {
		return key{}, fmt.Errorf("a key of %d bytes, want %d; %s", n, keySize, remedy)
	}
	if len(bytes.Trim(secret[:n], "\x00")) == 0 {
		return key{}, errors.New("a key of zeros; " + remedy)
	}
	block, err := aes.NewCipher(secret[:n])
	if err != nil {
		return key{}, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, fmt.Errorf("make cipher: %w", err)
	}
	hash := sha256.New()
	hash.Write([]byte("pgmtls seal key\x00"))
	hash.Write(secret[:n])
	return key{id: [idSize]byte(hash.Sum(nil)), aead: aead}, nil
}
