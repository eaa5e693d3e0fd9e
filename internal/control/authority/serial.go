package authority

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// maxSerial bounds a certificate's serial number, in bytes: RFC 5280 section 4.1.2.2.
const maxSerial = 20

// newSerial returns 16 bytes, 126 bits of them random: always positive, and always of the same length. Nobody has to
// keep count, and nobody can foretell what will be signed.
func newSerial() *big.Int {
	var raw [16]byte
	rand.Read(raw[:]) // never fails
	raw[0] = raw[0]&0x7f | 0x40
	return new(big.Int).SetBytes(raw[:])
}

// formatSerial writes lower-case hex pairs with colons, without leading zero bytes: the form of policy.yaml.
func formatSerial(serial *big.Int) string {
	raw := serial.Bytes()
	pairs := make([]string, len(raw))
	for i, b := range raw {
		pairs[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(pairs, ":")
}

// parseSerial reads what formatSerial writes, and nothing else.
func parseSerial(text string) (*big.Int, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err == nil && len(raw) <= maxSerial {
		if serial := new(big.Int).SetBytes(raw); serial.Sign() > 0 && formatSerial(serial) == text {
			return serial, nil
		}
	}
	return nil, fmt.Errorf("%q is not a serial number; use lower-case hex pairs with colons, such as 1f:0a:99", clean(text))
}
