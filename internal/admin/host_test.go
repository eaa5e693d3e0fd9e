package admin

import "testing"

func TestOnlyOwnNamesAreAnswered(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:9815": true, "[::1]:9815": true, "127.0.0.1": true, "localhost:9815": true, "localhost": true,
		"admin": true, "evil.example:9815": false, "evil.example": false, "localhost.evil.example": false, "": false,
	} {
		if local(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}
