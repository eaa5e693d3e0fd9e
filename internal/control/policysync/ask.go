package policysync

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/config"
)

const (
	statusTimeout = 5 * time.Second
	dryRunTimeout = 45 * time.Second // the proxy waits up to half a minute for a directory that keeps changing
)

// query gets the code and the bounded body of the proxy's answer.
func query(ctx context.Context, admin config.Address, r adminapi.Request) (code int, body []byte, err error) {
	if err := checkAdmin(admin); err != nil {
		return 0, nil, err
	}
	return adminapi.Do(ctx, admin.Network, admin.Address, r)
}

// checkAdmin refuses addresses beyond this machine. What comes back decides what is taken for in force, and neither
// side proves who it is.
func checkAdmin(admin config.Address) error {
	switch admin.Network {
	case "unix":
		if filepath.IsAbs(admin.Address) {
			return nil
		}
		return fmt.Errorf("the admin address unix:%.200q is not an absolute path", admin.Address)
	case "tcp":
		address, err := netip.ParseAddrPort(admin.Address)
		switch {
		case err != nil || address.Port() == 0:
			return fmt.Errorf("the admin address %.200q is not an IP address with a port, such as 127.0.0.1:9815", admin.Address)
		case !address.Addr().Unmap().IsLoopback():
			return fmt.Errorf("the admin address %s is not on loopback, so others could answer in the proxy's name: use the proxy's loopback address or unix socket, and run an agent beside a proxy on another machine", admin.Address)
		}
		return nil
	}
	return fmt.Errorf("the admin address %.200q of network %.20q is neither on loopback nor a unix socket", admin.Address, admin.Network)
}
