package notify

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// isLoopback reports whether a host of a configuration means this machine. The name localhost may be anybody's, so
// onlyLoopback looks again when it is known which address it stands for.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// onlyLoopback is a dialer's control function that refuses every other address, before the first packet.
func onlyLoopback(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not on this machine, so the connection must be encrypted; use TLS", clean(address))
	}
	return nil
}
