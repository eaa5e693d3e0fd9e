package proxyproto

import (
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
)

// Version 2 is a signature, a byte with version and command, one with family and transport, a length of two bytes, and as
// many bytes with addresses and then extensions (TLVs), which are skipped.
const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixed     = len(signature) + 4
	// maxBody is the most that is taken behind the fixed part. The addresses of a unix socket take 216 bytes, and the
	// specification expects headers to fit in 536; a balancer that adds what it knows, as of the client's certificate, must not
	// be turned away for it. Only the addresses are kept.
	maxBody = 8192
)

// The values that are understood (section 2.2), with the room that a family's addresses take.
const (
	commandLocal = 0x20
	commandProxy = 0x21

	unspecified          = 0x00
	overTCP4, lengthTCP4 = 0x11, 4 + 4 + 2 + 2
	overTCP6, lengthTCP6 = 0x21, 16 + 16 + 2 + 2
	overUnix, lengthUnix = 0x31, 108 + 108
)

// readBinary reads a header whose begin has been read.
func readBinary(r io.Reader, begin [lookahead]byte) (Header, error) {
	var head [fixed]byte
	copy(head[:], begin[:])
	if err := readOn(r, head[lookahead:]); err != nil {
		return Header{}, err
	}
	if !strings.HasPrefix(string(head[:]), signature) {
		return Header{}, ErrNoHeader
	}
	command, family, length := head[12], head[13], int(binary.BigEndian.Uint16(head[14:]))
	if length > maxBody {
		return Header{}, malformed("it is %d bytes long, more than %d", fixed+length, fixed+maxBody)
	}
	body := make([]byte, min(length, lengthUnix))
	if err := readOn(r, body); err != nil {
		return Header{}, err
	}
	if err := skip(r, length-len(body)); err != nil {
		return Header{}, err
	}
	switch command {
	case commandLocal:
		return Header{Own: true}, nil // whatever the family says: section 2.2
	case commandProxy:
		return parseBody(family, body)
	}
	return Header{}, malformed("version and command 0x%02x are unknown", command)
}

// skip reads exactly so many bytes of a header that has begun, and keeps none.
func skip(r io.Reader, length int) error {
	var some [512]byte
	for length > 0 {
		n := min(length, len(some))
		if err := readOn(r, some[:n]); err != nil {
			return err
		}
		length -= n
	}
	return nil
}

func parseBody(family byte, body []byte) (Header, error) {
	switch {
	case family == unspecified:
		return Header{Own: true}, nil
	case family == overTCP4 && len(body) >= lengthTCP4:
		return Header{Source: netip.AddrFrom4([4]byte(body))}, nil
	case family == overTCP6 && len(body) >= lengthTCP6:
		return Header{Source: netip.AddrFrom16([16]byte(body)).Unmap()}, nil
	case family == overUnix && len(body) >= lengthUnix:
		return Header{}, nil
	}
	return Header{}, malformed("family and transport 0x%02x with %d bytes are not understood", family, len(body))
}
