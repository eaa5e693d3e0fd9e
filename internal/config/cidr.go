package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseCIDR reads the network of an IP rule. It takes exactly one spelling of a network: what netip.ParsePrefix
// takes, with no host bits set and not IPv4-mapped. The error is one sentence with the value and the fix, and is
// meant to be shown to the person who wrote the rule.
func ParseCIDR(text string) (netip.Prefix, error) {
	p, c := parseCIDR(text)
	if c != nil {
		return netip.Prefix{}, errors.New(c.about(text))
	}
	return p, nil
}

// about is the complaint as a sentence of its own.
func (c *complaint) about(text string) string {
	return `"` + shown(text) + `" ` + c.message + "; " + c.fix
}

func parseCIDR(text string) (netip.Prefix, *complaint) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, whyNoCIDR(text)
	}
	switch addr := p.Addr(); {
	case addr.Is4In6() && p.Bits() >= 96:
		// Clients are compared by their IPv4 address, so this rule would match nobody.
		return netip.Prefix{}, &complaint{"is an IPv4-mapped network",
			"write " + netip.PrefixFrom(addr.Unmap(), p.Bits()-96).Masked().String()}
	case p != p.Masked():
		return netip.Prefix{}, &complaint{"has host bits set",
			fmt.Sprintf("write %s for the network or %s for the one address", p.Masked(), single(addr))}
	case addr.Is4In6():
		return netip.Prefix{}, &complaint{"is an IPv4-mapped network", "write an IPv4 or an IPv6 network"}
	}
	return p, nil
}

// single is the network of one address. An IPv4-mapped address counts as IPv4.
func single(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen())
}

// whyNoCIDR names the likeliest mistake in a text that is no network.
func whyNoCIDR(text string) *complaint {
	address, bits, slash := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(address)
	switch {
	case text == "":
		return &complaint{"is empty", `write a network such as 203.0.113.7/32`}
	case strings.TrimSpace(text) != text:
		return &complaint{"has spaces around it", "write " + shown(strings.TrimSpace(text))}
	case strings.Contains(text, "%"):
		return &complaint{"has a zone", "write the network without % and what follows: a rule holds on every interface"}
	case hasLeadingZero(address) || slash && len(bits) > 1 && bits[0] == '0' && allDigits(bits):
		return &complaint{"has a leading zero", "write each number without it: programs disagree whether 010 is ten or eight"}
	case err == nil && !slash:
		return &complaint{"is an address, not a network", "write " + single(addr).String() + " for the one address"}
	case err == nil && allDigits(bits):
		return &complaint{"has a prefix longer than the address", fmt.Sprintf("write /0 to /%d", addr.BitLen())}
	case err == nil && addr.Is4():
		if n, ok := maskBits(bits); ok {
			return &complaint{"has a netmask for a prefix length", "write " + netip.PrefixFrom(addr, n).Masked().String()}
		}
	}
	return &complaint{"is not an IPv4 or IPv6 network", "write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32"}
}

// hasLeadingZero reports whether the text looks like an IPv4 address with an octet such as 010.
func hasLeadingZero(address string) bool {
	octets := strings.Split(address, ".")
	if len(octets) != 4 {
		return false
	}
	zero := false
	for _, o := range octets {
		if !allDigits(o) {
			return false
		}
		zero = zero || len(o) > 1 && o[0] == '0'
	}
	return zero
}

// maskBits is the prefix length of a netmask such as 255.255.0.0.
func maskBits(mask string) (int, bool) {
	m, err := netip.ParseAddr(mask)
	if err != nil || !m.Is4() {
		return 0, false
	}
	var bits strings.Builder
	for _, b := range m.AsSlice() {
		fmt.Fprintf(&bits, "%08b", b)
	}
	ones := strings.TrimRight(bits.String(), "0")
	return len(ones), !strings.Contains(ones, "0")
}

// parseAddrPort reads a TCP address to listen on. Names are not resolved: what they mean can change between two
// starts. The port is the one that an example in the complaint shows.
func parseAddrPort(text string, port int) (netip.AddrPort, *complaint) {
	ap, err := netip.ParseAddrPort(text)
	if err == nil {
		if ap.Addr().Is4In6() {
			return netip.AddrPort{}, &complaint{"is an IPv4-mapped address", "write " + netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()}
		}
		return ap, nil
	}
	example := strconv.Itoa(port)
	addr, addrErr := netip.ParseAddr(text)
	host, hostPort, _ := cutPort(text)
	switch {
	case text == "":
		return ap, &complaint{"is empty", "write an address with a port: 127.0.0.1:" + example}
	case addrErr == nil && addr.Is4():
		return ap, &complaint{"has no port", "write " + text + ":" + example}
	case addrErr == nil:
		return ap, &complaint{"is an IPv6 address without brackets", "write it as in [::1]:" + example}
	case host == "localhost":
		return ap, &complaint{"is a name, not an address", "write 127.0.0.1:" + hostPort}
	case (host == "" || host == "*") && allDigits(hostPort):
		return ap, &complaint{"has no address", fmt.Sprintf("write 0.0.0.0:%s for every IPv4 address, [::]:%s for every IPv6 address", hostPort, hostPort)}
	case allDigits(text):
		return ap, &complaint{"is only a port", "write 0.0.0.0:" + shown(text) + " for every IPv4 address"}
	case isHostname(host) && allDigits(hostPort):
		return ap, &complaint{"is a name, not an address", "write an address of this machine, or 0.0.0.0:" + shown(hostPort) + " for every IPv4 address"}
	}
	return ap, &complaint{"is not an address with a port", fmt.Sprintf("write it as in 127.0.0.1:%d or [::1]:%d", port, port)}
}

// cutPort splits at the last colon outside of brackets.
func cutPort(text string) (host, port string, ok bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 || strings.HasSuffix(text, "]") {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

// isHostname reports whether a text can be a name in the DNS or in /etc/hosts. A last label of digits only would be
// a mistyped IPv4 address.
func isHostname(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(strings.ToLower(l), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return !allDigits(labels[len(labels)-1])
}
