package main

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"pgmtls-proxy/internal/config"
)

// socket is a listener that is bound to an address.
type socket struct {
	net.Listener
	at string
}

func (s socket) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s.at)) }

// What other machines are told is where they can get in: what the operator says, else the first of the names, unless the API
// is on loopback.
func TestPublicURLIsWhereOtherMachinesReachTheAPI(t *testing.T) {
	for _, row := range []struct {
		config config.Control
		bound  []string
		want   string
	}{
		{config.Control{PublicURL: "https://pgmtls.example.com", Names: []string{"other"}}, []string{"0.0.0.0:9816"}, "https://pgmtls.example.com"},
		{config.Control{PublicURL: "https://pgmtls.example.com"}, []string{"127.0.0.1:9816"}, "https://pgmtls.example.com"},
		{config.Control{Names: []string{"pgmtls.internal", "other"}}, []string{"0.0.0.0:9999"}, "https://pgmtls.internal:9999"},
		{config.Control{Names: []string{"2001:db8::1"}}, []string{"[::]:9816"}, "https://[2001:db8::1]:9816"},
		{config.Control{Names: []string{"pgmtls.internal"}}, []string{"127.0.0.1:1", "192.0.2.1:9816"}, "https://pgmtls.internal:9816"},
		{config.Control{Names: []string{"pgmtls.internal"}}, []string{"127.0.0.1:9816"}, "https://127.0.0.1:9816"},
		{config.Control{}, []string{"192.0.2.1:9816"}, "https://192.0.2.1:9816"},
		{config.Control{}, []string{"0.0.0.0:9816"}, "https://localhost:9816"},
		{config.Control{PlainHTTP: true}, []string{"127.0.0.1:9816"}, "http://127.0.0.1:9816"},
	} {
		d := &daemon{config: &row.config}
		var bound []net.Listener
		for _, at := range row.bound {
			bound = append(bound, socket{at: at})
		}
		if got := d.publicURL(bound); got != row.want {
			t.Errorf("%+v on %q: %s, want %s", row.config, row.bound, got, row.want)
		}
	}
}

func TestCertificateHasTheNameOfThePublicURL(t *testing.T) {
	if names := apiNames(&config.Control{PublicURL: "https://pgmtls.example.com:443", Names: []string{"other"}}); !slices.Contains(names, "pgmtls.example.com") || !slices.Contains(names, "other") {
		t.Errorf("names %q", names)
	}
}
