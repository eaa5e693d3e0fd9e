package proxyproto

import (
	"bytes"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Version 1 is one line:
//
//	PROXY TCP4 192.0.2.1 198.51.100.1 56324 5432\r\n
//	PROXY UNKNOWN\r\n
const (
	text       = "PROXY "
	maxText    = 107 // with the line's end: section 2.1
	textFields = 6   // of a line with addresses
)

// readText reads a line whose begin has been read. A line does not say how long it is, so each read takes what must still
// come at least: one byte at a time would cost a hundred system calls, and one byte too many is the client's.
func readText(r io.Reader, begin [lookahead]byte) (Header, error) {
	var buffer [maxText]byte
	line := buffer[:copy(buffer[:], begin[:])]
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if i := bytes.IndexAny(line, "\r\n"); i >= 0 && (line[i] == '\n' || i < len(line)-1) {
			return Header{}, malformed("it has a line's end inside")
		}
		next := len(line) + outstanding(line)
		if next > maxText {
			return Header{}, malformed("it is longer than %d bytes", maxText)
		}
		if err := readOn(r, buffer[len(line):next]); err != nil {
			return Header{}, err
		}
		line = buffer[:next]
	}
	return parseText(string(line[len(text) : len(line)-2]))
}

// outstanding is how many bytes a line has at least before it. It is never 0.
func outstanding(line []byte) int {
	switch {
	case line[len(line)-1] == '\r':
		return 1
	case len(line) < len("PROXY TCP4"):
		return len("PROXY TCP4") - len(line) // no protocol's name is shorter
	case bytes.HasPrefix(line, []byte("PROXY TCP")):
		missing := max(textFields-1-bytes.Count(line, []byte(" ")), 0)
		return 2*missing + len("\r\n") // a space and a character for each field
	}
	return len("\r\n")
}

// parseText reads what stands behind "PROXY ".
func parseText(line string) (Header, error) {
	fields := strings.Split(line, " ")
	if fields[0] == "UNKNOWN" {
		return Header{Own: true}, nil // whatever follows is to be ignored: section 2.1
	}
	if fields[0] != "TCP4" && fields[0] != "TCP6" {
		return Header{}, malformed("%.16q is no protocol that it knows", fields[0])
	}
	if len(fields) != textFields-1 {
		return Header{}, malformed("it has %d fields, not %d", len(fields)+1, textFields)
	}
	source, sourceOK := parseAddr(fields[0], fields[1])
	_, destinationOK := parseAddr(fields[0], fields[2])
	if !sourceOK || !destinationOK {
		return Header{}, malformed("an address is none of %s", fields[0])
	}
	if !isPort(fields[3]) || !isPort(fields[4]) {
		return Header{}, malformed("a port is none")
	}
	return Header{Source: source.Unmap()}, nil
}

// parseAddr reads an address of the protocol. A zone would be one of the balancer's interfaces.
func parseAddr(protocol, field string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(field)
	return addr, err == nil && addr.Zone() == "" && addr.Is4() == (protocol == "TCP4")
}

// isPort takes a port as the specification writes it: in decimal, from 0 to 65535, without leading zeros.
func isPort(field string) bool {
	n, err := strconv.ParseUint(field, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == field
}
