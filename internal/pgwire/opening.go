// Package pgwire speaks as much of the PostgreSQL protocol as a gate needs: the packets that open a
// connection, the FATAL that refuses it, and the headers of the server's messages as they pass.
//
// It is not a driver: it knows no query and decodes no row. What follows the startup packet is forwarded as
// it came, and [ServerStream] only hops from header to header. Package session drives the opening with it,
// package relay the stream.
//
// The functions here read exact numbers of bytes and never buffer ahead. That is a security property: bytes
// that a man in the middle puts behind SSLRequest must not be mistaken for the client's once TLS is up
// (CVE-2021-23214, CVE-2021-3935).
package pgwire

import (
	"encoding/binary"
	"io"

	"pgmtls-proxy/internal/refusal"
)

// Request codes that stand where a StartupMessage has its protocol version (pqcomm.h).
const (
	CancelRequestCode uint32 = 1234<<16 | 5678
	SSLRequestCode    uint32 = 1234<<16 | 5679
	GSSENCRequestCode uint32 = 1234<<16 | 5680
)

// maxStartup bounds a StartupMessage without its length word: MAX_STARTUP_PACKET_LENGTH in pqcomm.h.
const maxStartup = 10000

// Kind is what a connection opens with.
type Kind uint8

// The kinds of openings.
const (
	StartupMessage Kind = iota
	SSLRequest
	GSSENCRequest
	CancelRequest
	ClientHello // direct TLS, as libpq 17 does with sslnegotiation=direct
)

// Opening is the first eight bytes that a client sends, before and after each negotiation: a length and a
// code, or the begin of a TLS record.
type Opening [8]byte

// ReadOpening reads exactly eight bytes. The error is [io.EOF] when the peer left without a byte, as a load
// balancer's probe does, and [io.ErrUnexpectedEOF] when it left in between.
func ReadOpening(r io.Reader) (Opening, error) {
	var o Opening
	_, err := io.ReadFull(r, o[:])
	return o, err
}

// Kind tells what the client wants. A first byte of 0x16 is a TLS handshake record: as a length word it
// would announce 369 MB.
func (o Opening) Kind() Kind {
	if o[0] == 0x16 {
		return ClientHello
	}
	switch o.code() {
	case SSLRequestCode:
		return SSLRequest
	case GSSENCRequestCode:
		return GSSENCRequest
	case CancelRequestCode:
		return CancelRequest
	}
	return StartupMessage
}

// length is the packet's length with the length word.
func (o Opening) length() uint32 { return binary.BigEndian.Uint32(o[:4]) }

func (o Opening) code() uint32 { return binary.BigEndian.Uint32(o[4:]) }

// CheckRequest refuses an SSLRequest or GSSENCRequest that has more than its code.
func (o Opening) CheckRequest() *refusal.Refusal {
	if o.length() != uint32(len(o)) {
		return invalidLength()
	}
	return nil
}

// readBody reads the rest of a packet of min to max bytes, length word included, and returns it whole.
func (o Opening) readBody(r io.Reader, min, max uint32) ([]byte, error) {
	length := o.length()
	if length < min || length > max {
		return nil, invalidLength()
	}
	packet := make([]byte, length)
	copy(packet, o[:])
	if _, err := io.ReadFull(r, packet[len(o):]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return packet, nil
}

func invalidLength() *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ProtocolViolation}
}
