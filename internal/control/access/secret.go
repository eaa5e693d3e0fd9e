package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// A presented token is "pgmtls_", 8 hex digits that name it, "_", and 32 random bytes in base64url. The id is no
// secret: it is the key in the store, and it is what logs have. Scanners of leaked secrets know tokens by the prefix.
const (
	tokenPrefix  = "pgmtls_"
	idLength     = 8
	secretBytes  = 32
	secretLength = 43 // of secretBytes in base64url without padding
	tokenLength  = len(tokenPrefix) + idLength + 1 + secretLength
)

const (
	hexDigits   = "0123456789abcdef"
	base64Chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// splitToken reads a presented token. It is not ok when it has another form than one of ours.
func splitToken(presented string) (id, secret string, ok bool) {
	rest, ours := strings.CutPrefix(presented, tokenPrefix)
	if !ours || len(presented) != tokenLength || rest[idLength] != '_' {
		return "", "", false
	}
	id, secret = rest[:idLength], rest[idLength+1:]
	if !consistsOf(id, hexDigits) || !consistsOf(secret, base64Chars) {
		return "", "", false
	}
	return id, secret, true
}

func consistsOf(text, chars string) bool { return strings.Trim(text, chars) == "" }

// newSecret makes a token that was never given out, as it is presented.
func newSecret() (id, presented string, digest []byte) {
	var name [idLength / 2]byte
	var raw [secretBytes]byte
	rand.Read(name[:]) // never fails
	rand.Read(raw[:])
	id = hex.EncodeToString(name[:])
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	return id, tokenPrefix + id + "_" + secret, digestOf(secret)
}

// digestOf is what is stored of a secret. A plain hash is enough: nobody guesses 32 random bytes, so there is nothing
// that a slow one would protect.
func digestOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
