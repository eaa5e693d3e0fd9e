package cli

import "testing"

func TestWideNetworksAreTold(t *testing.T) {
	for cidr, want := range map[string]string{
		"0.0.0.0/0":      "0.0.0.0/0 lets in every IPv4 address",
		"0.0.0.0/1":      "0.0.0.0/1 lets in a large part of all IPv4 addresses (1/2)",
		"128.0.0.0/1":    "128.0.0.0/1 lets in a large part of all IPv4 addresses (1/2)",
		"64.0.0.0/7":     "64.0.0.0/7 lets in a large part of all IPv4 addresses (1/128)",
		"10.0.0.0/8":     "",
		"203.0.113.7/32": "",
		"::/0":           "::/0 lets in every IPv6 address",
		"2000::/3":       "2000::/3 lets in every IPv6 address of the Internet",
		"::/1":           "::/1 lets in every IPv6 address of the Internet",
		"2000::/4":       "2000::/4 lets in a large part of all IPv6 addresses (1/16)",
		"2001::/15":      "2001::/15 lets in a large part of all IPv6 addresses (1/32768)",
		"2001:db8::/32":  "",
		"2003::/19":      "",
		"fc00::/7":       "",
		"fe80::/10":      "",
		"8000::/1":       "8000::/1 lets in a large part of all IPv6 addresses (1/2)",
		"no network":     "",
		"0.0.0.0":        "",
		"0.0.0.0/33":     "",
	} {
		if got := wide(cidr); got != want {
			t.Errorf("%s: %q, want %q", cidr, got, want)
		}
	}
}
