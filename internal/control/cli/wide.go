package cli

import (
	"fmt"
	"net/netip"
)

// Networks of unicast addresses that no router of the Internet forwards. They are large, and let in no stranger.
var private = []netip.Prefix{netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10")}

// The largest networks that belong to one holder. The 60 rules that a database may have cover less than a quarter of the
// addresses with networks of these sizes, so whatever lets in nearly everybody has a larger one among its rules.
const (
	largestIPv4 = 8
	largestIPv6 = 16
)

// wide returns what is remarkable in a network that nobody has for themselves, such as 0.0.0.0/0 and 128.0.0.0/1. It is empty
// for all others, and for text that is no network, which the server refuses.
func wide(cidr string) string {
	network, err := netip.ParsePrefix(cidr)
	if err != nil {
		return ""
	}
	family, largest := "IPv6", largestIPv6
	if network.Addr().Is4() {
		family, largest = "IPv4", largestIPv4
	}
	for _, inside := range private {
		if inside.Contains(network.Addr()) && network.Bits() >= inside.Bits() {
			return ""
		}
	}
	switch {
	case network.Bits() == 0:
		return fmt.Sprintf("%s lets in every %s address", network, family)
	case network.Addr().Is6() && network.Bits() <= 3 && network.Overlaps(netip.MustParsePrefix("2000::/3")):
		return fmt.Sprintf("%s lets in every IPv6 address of the Internet", network)
	case network.Bits() < largest:
		return fmt.Sprintf("%s lets in a large part of all %s addresses (1/%d)", network, family, 1<<network.Bits())
	}
	return ""
}
