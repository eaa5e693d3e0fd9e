package agent

import (
	"strings"
	"testing"

	"pgmtls-proxy/internal/config"
)

// The address of the control plane is taken as people type it, and never as one that shows what is sent.
func TestControlPlaneMayBeNamedWithoutAScheme(t *testing.T) {
	options := func(control string) Options {
		return Options{Database: "shop", Control: control, PolicyDir: t.TempDir(), StateDir: t.TempDir(),
			Admin: config.Address{Network: "tcp", Address: "127.0.0.1:9815"}}
	}
	for _, good := range []string{"https://pgmtls.internal:9816", "https://pgmtls.internal:9816/", "pgmtls.internal:9816", "[2001:db8::1]:9816", "127.0.0.1:9816//"} {
		if _, err := options(good).complete(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "http://127.0.0.1:9816", "ftp://pgmtls.internal"} {
		if _, err := options(bad).complete(); err == nil || !strings.Contains(err.Error(), "must be of the form https://control.example.com:9816") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
