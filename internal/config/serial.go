package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
)

// maxSerial bounds a certificate's serial number, in bytes: RFC 5280 section 4.1.2.2.
const maxSerial = 20

// Serial is a certificate's serial number. Two are equal when the numbers are. The zero value is no serial.
type Serial struct{ text string }

// ParseSerial reads hex pairs with or without colons, in either case: the forms in which openssl, browsers and this
// proxy's log print a serial. The error is one sentence with the value and the fix.
func ParseSerial(text string) (Serial, error) {
	s, c := parseSerial(text)
	if c != nil {
		return Serial{}, errors.New(c.about(text))
	}
	return s, nil
}

// String is lower-case hex pairs with colons, without leading zero bytes: "1f:0a:99".
func (s Serial) String() string { return s.text }

// Int is the serial as crypto/x509 has it. It is the caller's own.
func (s Serial) Int() *big.Int {
	n, _ := new(big.Int).SetString(strings.ReplaceAll(s.text, ":", ""), 16)
	return n
}

func parseSerial(text string) (Serial, *complaint) {
	digits := text
	if strings.Contains(text, ":") {
		for pair := range strings.SplitSeq(text, ":") {
			if len(pair) != 2 {
				return Serial{}, &complaint{"is not made of hex pairs", "write two digits between the colons, as in 1f:0a:99"}
			}
		}
		digits = strings.ReplaceAll(text, ":", "")
	}
	raw, err := hex.DecodeString(digits)
	raw = bytes.TrimLeft(raw, "\x00")
	switch {
	case text == "":
		return Serial{}, &complaint{"is empty", "write hex pairs, as in 1f:0a:99"}
	case strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X"):
		return Serial{}, &complaint{"starts with 0x", "write hex pairs only: " + shown(digits[2:])}
	case errors.Is(err, hex.ErrLength):
		return Serial{}, &complaint{"has an odd number of hex digits", "write pairs: 0" + shown(digits)}
	case err != nil:
		return Serial{}, &complaint{"is not hexadecimal", "write hex pairs, as in 1f:0a:99"}
	case len(raw) == 0:
		return Serial{}, &complaint{"is zero", "write the serial of a certificate: it is positive"}
	case len(raw) > maxSerial:
		return Serial{}, &complaint{"is longer than 20 bytes", "write a serial, not a fingerprint: openssl x509 -noout -serial prints it"}
	}
	pairs := make([]string, len(raw))
	for i, b := range raw {
		pairs[i] = hex.EncodeToString([]byte{b})
	}
	return Serial{strings.Join(pairs, ":")}, nil
}
