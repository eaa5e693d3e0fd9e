package config

import "testing"

func TestAddressesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Address{
		"127.0.0.1:9815": {"tcp", "127.0.0.1:9815"},
		"[0::1]:9815":    {"tcp", "[::1]:9815"},
		"unix:/run//x":   {"unix", "/run/x"},
	} {
		a, err := ParseAddress(text)
		if err != nil || a != want {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("%s is written as %s, which reads as %+v, %v", text, a, again, err)
		}
	}
	for text, want := range map[string]string{
		"":               `"" is empty; write an address with a port: 127.0.0.1:9815`,
		"localhost:9815": `"localhost:9815" is a name, not an address; write 127.0.0.1:9815`,
		"unix:x":         `"unix:x" is not an absolute path; write unix: and the socket's path from the root, as in unix:/run/postgresql/.s.PGSQL.5432`,
	} {
		if a, err := ParseAddress(text); err == nil || err.Error() != want || a != (Address{}) {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	}
}

func TestOnlyLoopbackAndUnixSocketsAreLocal(t *testing.T) {
	for a, local := range map[Address]bool{
		{"tcp", "127.0.0.1:9815"}:          true,
		{"tcp", "127.9.9.9:1"}:             true,
		{"tcp", "[::1]:9815"}:              true,
		{"tcp", "[::ffff:127.0.0.1]:9815"}: true,
		{"unix", "/run/x"}:                 true,
		{"unix", "x"}:                      false,
		{"tcp", "0.0.0.0:9815"}:            false,
		{"tcp", "[::]:9815"}:               false,
		{"tcp", "10.0.0.1:9815"}:           false,
		{"tcp", "localhost:9815"}:          false, // a name may be anybody's
		{}:                                 false,
	} {
		if err := a.CheckLocal(); (err == nil) != local {
			t.Errorf("%+v: %v", a, err)
		}
	}
}
