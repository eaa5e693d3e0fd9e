package main

import (
	"net"
	"path/filepath"
	"testing"

	"pgmtls-proxy/internal/config"
)

// The admin socket is handed over if the new configuration wants it where it is; otherwise another one is opened.
func TestAdminSocketIsTakenIfItIsWantedWhereItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin")
	for _, c := range []struct {
		at, want config.Address
		taken    bool
	}{
		{config.Address{Network: "tcp", Address: "127.0.0.1:0"}, config.Address{Network: "tcp", Address: "127.0.0.1:0"}, true},
		{config.Address{Network: "tcp", Address: "127.0.0.1:0"}, config.Address{Network: "tcp", Address: "127.0.0.1:1"}, false},
		{config.Address{Network: "tcp", Address: "127.0.0.1:0"}, config.Address{Network: "tcp", Address: "127.0.0.2:0"}, false},
		{config.Address{Network: "tcp", Address: "127.0.0.1:0"}, config.Address{Network: "unix", Address: path}, false},
		{config.Address{Network: "tcp", Address: "0.0.0.0:0"}, config.Address{Network: "tcp", Address: "0.0.0.0:0"}, true},
		{config.Address{Network: "tcp", Address: "127.0.0.1:0"}, config.Address{Network: "tcp", Address: "0.0.0.0:0"}, false},
		{config.Address{Network: "unix", Address: path}, config.Address{Network: "unix", Address: path}, true},
		{config.Address{Network: "unix", Address: path}, config.Address{Network: "unix", Address: path + "2"}, false},
		{config.Address{Network: "unix", Address: path}, config.Address{Network: "tcp", Address: "127.0.0.1:0"}, false},
	} {
		l, err := net.Listen(c.at.Network, c.at.Address)
		if err != nil {
			t.Fatal(err)
		}
		if got := isAt(l, c.want); got != c.taken {
			t.Errorf("the admin socket at %s is taken for %s: %v", l.Addr(), c.want.Address, got)
		}
		l.Close()
	}
}
