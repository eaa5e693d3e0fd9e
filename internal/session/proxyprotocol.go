package session

import (
	"errors"
	"net/netip"
	"slices"

	"pgmtls-proxy/internal/proxyproto"
	"pgmtls-proxy/internal/refusal"
)

// identifyClient finds out whose connection it is, before anything is asked about its address. From a balancer's network a
// PROXY header has to come first, and from then on the address in it is the client's: for the allowlist, the limits,
// cancel requests and the log. From anywhere else nobody reads a header, and one that comes is no opening of
// PostgreSQL's protocol.
func (c *connection) identifyClient() error {
	if !c.server.fromBalancer(c.addr) {
		return nil
	}
	header, err := proxyproto.Read(c.conn)
	switch {
	case left(err), err == nil && header.Own:
		// A balancer that looks whether somebody listens, with or without a header. What it might ask next would be asked
		// in the name of its own address, which is no client's.
		return errProbe
	case errors.Is(err, proxyproto.ErrNoHeader), errors.Is(err, proxyproto.ErrMalformed):
		return &refusal.Refusal{
			Reason:  refusal.ProtocolViolation,
			Message: "no valid PROXY protocol header",
			Hint:    "This port expects the PROXY protocol from this address.",
			Cause:   err,
		}
	case err != nil:
		return err
	}
	c.via, c.addr = c.addr, header.Source
	c.snap = c.server.config.Policy.Current() // the header may have taken its time
	return nil
}

// fromBalancer reports whether the operator said that a header comes from the address.
func (s *Server) fromBalancer(addr netip.Addr) bool {
	addr = addr.WithZone("") // a network contains no address with a zone
	return slices.ContainsFunc(s.config.ProxyProtocol, func(p netip.Prefix) bool { return p.Contains(addr) })
}
