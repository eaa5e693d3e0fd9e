package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// Listen opens the addresses, or takes the inherited listeners in their place: a process that systemd started by
// socket activation serves the sockets of its socket unit and binds none itself, since it may lack the right to and
// the unit is where the operator said which.
//
// "[::]:5432" alone accepts IPv4 as well, as ::ffff:a.b.c.d. If the list has an IPv4 address of the same port, it
// accepts IPv6 only, so that "0.0.0.0:5432" and "[::]:5432" stand beside each other whatever net.ipv6.bindv6only says.
//
// Taken are the listeners of a process that this one replaces: one that stands at an address is served in place of a
// new one, which could not be opened. The others are closed.
//
// Either every address is open or none: the error tells the problems of all of them.
func Listen(ctx context.Context, addresses []netip.AddrPort, inherited []net.Listener, taken ...net.Listener) ([]net.Listener, error) {
	taken = slices.Clone(taken)
	defer func() { closeAll(taken) }()
	if len(inherited) > 0 {
		return checkInherited(inherited)
	}
	if len(addresses) == 0 {
		return nil, errors.New("no address to listen on")
	}
	config := net.ListenConfig{
		KeepAlive: -1, // the server sets it on the accepted connections, inherited listeners' included
	}
	// With Multipath TCP, Go's default for listeners, a client at an allowed address could move its traffic to one
	// that is not: only the first path's address is ever seen.
	config.SetMultipathTCP(false)

	var listeners []net.Listener
	var problems []error
	for _, address := range addresses {
		if i := slices.IndexFunc(taken, func(l net.Listener) bool { return standsAt(l, address) }); i >= 0 {
			listeners = append(listeners, taken[i])
			taken = slices.Delete(taken, i, i+1)
			continue
		}
		l, err := config.Listen(ctx, network(address, addresses), address.String())
		if err != nil {
			problems = append(problems, fmt.Errorf("listen on %s: %w", address, explain(err)))
			continue
		}
		listeners = append(listeners, l)
	}
	if len(problems) > 0 {
		for _, l := range listeners {
			l.Close()
		}
		return nil, errors.Join(problems...)
	}
	return listeners, nil
}

// firstInherited is the first descriptor that systemd hands over (sd_listen_fds(3), SD_LISTEN_FDS_START).
const firstInherited = 3

// checkInherited refuses sockets that can't be served: package activation gives nil for one that does not listen, as for
// datagrams, and an allowlist of addresses has nothing to say about a unix socket's clients.
func checkInherited(inherited []net.Listener) ([]net.Listener, error) {
	var problems []error
	for i, l := range inherited {
		if l == nil {
			problems = append(problems, fmt.Errorf("the inherited descriptor %d is not a listening socket; write ListenStream= in the socket unit", firstInherited+i))
		} else if _, tcp := l.Addr().(*net.TCPAddr); !tcp {
			problems = append(problems, fmt.Errorf("the inherited descriptor %d is a %s socket; write ListenStream= with a port in the socket unit", firstInherited+i, l.Addr().Network()))
		}
	}
	if len(problems) == 0 {
		return inherited, nil
	}
	for _, l := range inherited {
		if l != nil {
			l.Close()
		}
	}
	return nil, errors.Join(problems...)
}

// standsAt reports whether a listener is at an address of which the port may be 0, for any.
func standsAt(l net.Listener, address netip.AddrPort) bool {
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return false
	}
	at := tcp.AddrPort()
	return at.Addr().Unmap() == address.Addr().Unmap() && (address.Port() == 0 || at.Port() == address.Port())
}

// network is the family that package net is asked for. "tcp6" sets IPV6_V6ONLY, "tcp" clears it for "[::]"; for
// "0.0.0.0", "tcp" would open a socket for both families.
func network(address netip.AddrPort, all []netip.AddrPort) string {
	if address.Addr().Unmap().Is4() {
		return "tcp4"
	}
	if address.Addr() != netip.IPv6Unspecified() {
		return "tcp6"
	}
	for _, other := range all {
		if other.Addr().Unmap().Is4() && other.Port() == address.Port() {
			return "tcp6"
		}
	}
	return "tcp"
}

// explain adds what to do to the errors that operators meet.
func explain(err error) error {
	for _, known := range []struct {
		cause syscall.Errno
		fix   string
	}{
		{syscall.EADDRINUSE, "the port is in use; stop the program that uses it (ss -ltnp shows it) or choose another port"},
		{syscall.EACCES, "the port is below 1024; choose a higher one or grant CAP_NET_BIND_SERVICE"},
		{syscall.EADDRNOTAVAIL, "no interface of this host has the address; correct it or use 0.0.0.0 or [::]"},
		{syscall.EAFNOSUPPORT, "this host has no such address family; remove the address"},
	} {
		if errors.Is(err, known.cause) {
			return fmt.Errorf("%s: %w", known.fix, known.cause)
		}
	}
	return err
}
