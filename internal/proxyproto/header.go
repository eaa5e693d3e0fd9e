// Package proxyproto reads the header with which a load balancer tells whom it speaks for: the PROXY protocol, versions 1
// and 2, as HAProxy's proxy-protocol.txt defines it.
//
// It does not decide whom to believe: package session asks for a header where the operator said that one must come, and
// nowhere else. It writes no header, and reads nothing behind the one that it is asked for: what follows is PostgreSQL's
// opening, of which no byte may be lost (see package pgwire).
package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Header is what a balancer says of a connection.
type Header struct {
	// Own is a connection of the balancer's own, mostly a health check: LOCAL, UNKNOWN or an unspecified family. It
	// speaks for nobody.
	Own bool
	// Source is the client's address, unmapped: ::ffff:192.0.2.1 is 192.0.2.1. It is invalid for a connection of the
	// balancer's own, and for a client of a unix socket, which has none.
	Source netip.Addr
}

// ErrNoHeader is a connection that begins with something else.
var ErrNoHeader = errors.New("the connection does not begin with a PROXY protocol header")

// ErrMalformed is wrapped by all that can be wrong with a header.
var ErrMalformed = errors.New("the PROXY protocol header is malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// lookahead is read first. It tells the versions apart, and is no more than an SSLRequest: a client that comes without a
// header is found out, and does not wait for an answer until the deadline.
const lookahead = 8

// Read reads exactly one header. The error is [io.EOF] if the peer left without a byte, [io.ErrUnexpectedEOF] if it left in
// between, [ErrNoHeader], one that wraps [ErrMalformed], or that of the reader. Nothing that a peer
// sends makes it take more than a kilobyte.
func Read(r io.Reader) (Header, error) {
	var begin [lookahead]byte
	if _, err := io.ReadFull(r, begin[:]); err != nil {
		return Header{}, err
	}
	switch {
	case bytes.HasPrefix(begin[:], []byte(text)):
		return readText(r, begin)
	case bytes.HasPrefix([]byte(signature), begin[:]):
		return readBinary(r, begin)
	}
	return Header{}, ErrNoHeader
}

// readOn reads more of a header that has begun.
func readOn(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
