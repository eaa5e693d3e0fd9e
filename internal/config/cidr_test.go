package config

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCIDRThatIsNoCanonicalNetworkNamesTheFix(t *testing.T) {
	for text, want := range map[string]string{
		"":                       `"" is empty; write a network such as 203.0.113.7/32`,
		"10.0.0.1/8":             `"10.0.0.1/8" has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1/32 for the one address`,
		"2001:db8::1/32":         `"2001:db8::1/32" has host bits set; write 2001:db8::/32 for the network or 2001:db8::1/128 for the one address`,
		"1.2.3.4":                `"1.2.3.4" is an address, not a network; write 1.2.3.4/32 for the one address`,
		"2001:db8::1":            `"2001:db8::1" is an address, not a network; write 2001:db8::1/128 for the one address`,
		"::ffff:1.2.3.4":         `"::ffff:1.2.3.4" is an address, not a network; write 1.2.3.4/32 for the one address`,
		"::ffff:1.2.3.0/120":     `"::ffff:1.2.3.0/120" is an IPv4-mapped network; write 1.2.3.0/24`,
		"::ffff:1.2.3.4/120":     `"::ffff:1.2.3.4/120" is an IPv4-mapped network; write 1.2.3.0/24`,
		"::ffff:0:0/96":          `"::ffff:0:0/96" is an IPv4-mapped network; write 0.0.0.0/0`,
		"fe80::1%eth0/64":        `"fe80::1%eth0/64" has a zone; write the network without % and what follows: a rule holds on every interface`,
		"010.0.0.0/8":            `"010.0.0.0/8" has a leading zero; write each number without it: programs disagree whether 010 is ten or eight`,
		"10.0.0.0/08":            `"10.0.0.0/08" has a leading zero; write each number without it: programs disagree whether 010 is ten or eight`,
		"10.0.0.0/33":            `"10.0.0.0/33" has a prefix longer than the address; write /0 to /32`,
		"2001:db8::/129":         `"2001:db8::/129" has a prefix longer than the address; write /0 to /128`,
		"10.1.0.0/255.255.0.0":   `"10.1.0.0/255.255.0.0" has a netmask for a prefix length; write 10.1.0.0/16`,
		"10.1.0.0/255.0.255.0":   `"10.1.0.0/255.0.255.0" is not an IPv4 or IPv6 network; write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32`,
		" 10.0.0.0/8":            `" 10.0.0.0/8" has spaces around it; write 10.0.0.0/8`,
		"office.example":         `"office.example" is not an IPv4 or IPv6 network; write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32`,
		"10.0.0.0/":              `"10.0.0.0/" is not an IPv4 or IPv6 network; write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32`,
		"10.0.0.0-10.0.0.9":      `"10.0.0.0-10.0.0.9" is not an IPv4 or IPv6 network; write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32`,
		"\x1b[2J":                `"\x1b[2J" is not an IPv4 or IPv6 network; write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32`,
		strings.Repeat("9", 200): `"` + strings.Repeat("9", 80) + `…" is not an IPv4 or IPv6 network; write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32`,
	} {
		if p, err := ParseCIDR(text); err == nil {
			t.Errorf("ParseCIDR(%q) = %v, want an error", text, p)
		} else if err.Error() != want {
			t.Errorf("ParseCIDR(%q):\n got %s\nwant %s", text, err, want)
		}
	}
}

func TestCanonicalCIDRIsTaken(t *testing.T) {
	for _, text := range []string{"0.0.0.0/0", "::/0", "1.2.3.4/32", "10.0.0.0/8", "2001:db8::/32", "2001:DB8:0::/32", "::1/128"} {
		p, err := ParseCIDR(text)
		if err != nil || p != netip.MustParsePrefix(text) {
			t.Errorf("ParseCIDR(%q) = %v, %v", text, p, err)
		}
	}
}

// FuzzParseCIDR holds ParseCIDR against the rule in its doc comment.
func FuzzParseCIDR(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.1/8", "::ffff:1.2.3.4/128", "::ffff:0:0/80", "fe80::%1/64", "010.0.0.0/8", "1.2.3.4", "1.2.3.4/255.255.255.255", "::/0", "/", "1.2.3.4/00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := netip.ParsePrefix(text)
		want := err == nil && p == p.Masked() && !p.Addr().Is4In6() && p.Addr().Zone() == ""
		got, err := ParseCIDR(text)
		if (err == nil) != want || err == nil && got != p {
			t.Fatalf("ParseCIDR(%q) = %v, %v; canonical: %v", text, got, err, want)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\r\x1b\x00") || len(err.Error()) > 1024) {
			t.Fatalf("ParseCIDR(%q): the error is not fit to be printed: %q", text, err)
		}
	})
}
