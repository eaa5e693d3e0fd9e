package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Address is a place to listen on or to dial: Network "tcp" or "unix".
type Address struct{ Network, Address string }

// ParseAddress reads an admin address as proxy.yaml has it: "127.0.0.1:9815", "[::1]:9815" or "unix:" and an absolute
// path. Names are not taken. The error is one sentence with the value and the fix, and is meant to be shown to the
// person who wrote the address.
func ParseAddress(text string) (Address, error) {
	a, c := parseAddress(text)
	if c != nil {
		return Address{}, errors.New(c.about(text))
	}
	return a, nil
}

// String is the address as [ParseAddress] reads it.
func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Address
	}
	return a.Address
}

// CheckLocal refuses an address that is not of this machine alone, which is to say neither a loopback address nor a
// unix socket. The admin port has no password: whoever reads it elsewhere believes whoever answers.
func (a Address) CheckLocal() error {
	if !a.local() {
		c := complaint{"is not on this machine alone", "write a loopback address such as 127.0.0.1:9815, or unix: and the socket's path"}
		return errors.New(c.about(a.String()))
	}
	return nil
}

func (a Address) local() bool {
	if a.Network == "unix" {
		return filepath.IsAbs(a.Address)
	}
	ap, err := netip.ParseAddrPort(a.Address)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// maxSocketPath is what fits into sockaddr_un with its closing NUL.
const maxSocketPath = 107

func parseAddress(text string) (Address, *complaint) {
	if path, unix := strings.CutPrefix(text, "unix:"); unix {
		return parseSocket(path)
	}
	ap, c := parseAddrPort(text, 9815)
	if c != nil {
		return Address{}, c
	}
	return Address{"tcp", ap.String()}, nil
}

func parseSocket(path string) (Address, *complaint) {
	switch {
	case !filepath.IsAbs(path):
		return Address{}, &complaint{"is not an absolute path", "write unix: and the socket's path from the root, as in unix:/run/postgresql/.s.PGSQL.5432"}
	case len(path) > maxSocketPath:
		return Address{}, &complaint{fmt.Sprintf("is a path of %d bytes", len(path)), fmt.Sprintf("a unix socket's path has at most %d", maxSocketPath)}
	case shown(path) != path:
		return Address{}, &complaint{"has characters that can't be printed", "write another path"}
	}
	return Address{"unix", filepath.Clean(path)}, nil
}
