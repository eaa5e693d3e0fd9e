package listener

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// freePort is a port that neither family uses at the moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Skipf("this host has no IPv6: %v", err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func listen(t *testing.T, addresses ...string) []net.Listener {
	t.Helper()
	port := freePort(t)
	var list []netip.AddrPort
	for _, address := range addresses {
		list = append(list, netip.AddrPortFrom(netip.MustParseAddr(address), port))
	}
	listeners, err := Listen(t.Context(), list, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(listeners) })
	return listeners
}

// peerOf connects to the host at the listeners' port, and gives the address that l sees.
func peerOf(t *testing.T, l net.Listener, network, host string) netip.Addr {
	t.Helper()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	client, err := net.Dial(network, net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if multipath, _ := conn.(*net.TCPConn).MultipathTCP(); multipath {
		t.Error("the listener speaks Multipath TCP")
	}
	return conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
}

func TestBothWildcardsStandBesideEachOther(t *testing.T) {
	for _, order := range [][]string{{"0.0.0.0", "::"}, {"::", "0.0.0.0"}} {
		for _, l := range listen(t, order...) {
			if strings.HasPrefix(l.Addr().String(), "0.0.0.0:") {
				if got := peerOf(t, l, "tcp4", "127.0.0.1"); got != netip.MustParseAddr("127.0.0.1") {
					t.Errorf("0.0.0.0 sees %v", got)
				}
			} else if got := peerOf(t, l, "tcp6", "::1"); got != netip.IPv6Loopback() {
				t.Errorf("[::] sees %v", got)
			}
		}
	}
}

func TestIPv6WildcardAloneTakesIPv4AsMapped(t *testing.T) {
	l := listen(t, "::")[0]
	if got := peerOf(t, l, "tcp4", "127.0.0.1"); got.Unmap() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("[::] sees %v for 127.0.0.1", got)
	}
	if got := peerOf(t, l, "tcp6", "::1"); got != netip.IPv6Loopback() {
		t.Errorf("[::] sees %v for ::1", got)
	}
}

func TestIPv4WildcardTakesNoIPv6(t *testing.T) {
	l := listen(t, "0.0.0.0")[0]
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if client, err := net.Dial("tcp6", "[::1]:"+port); err == nil {
		client.Close()
		t.Error("0.0.0.0 accepts IPv6")
	}
}

func TestEveryAddressesProblemIsToldAndNothingStaysOpen(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := netip.MustParseAddrPort(taken.Addr().String())
	free := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	foreign := netip.MustParseAddrPort("192.0.2.77:5432")

	_, err = Listen(t.Context(), []netip.AddrPort{free, busy, foreign}, nil)
	if !errors.Is(err, syscall.EADDRINUSE) || !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Fatalf("error is %v, want both problems", err)
	}
	for _, part := range []string{"listen on " + busy.String() + ": the port is in use", "listen on 192.0.2.77:5432: no interface"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not contain %q", err, part)
		}
	}
	again, err := Listen(t.Context(), []netip.AddrPort{free}, nil)
	if err != nil {
		t.Fatalf("the good address was left open: %v", err)
	}
	closeAll(again)
}

func TestInheritedListenersReplaceTheAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := Listen(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("192.0.2.77:5432")}, []net.Listener{l})
	if err != nil || len(got) != 1 || got[0] != l {
		t.Errorf("Listen gives %v, %v, want the inherited listener", got, err)
	}
}

func TestInheritedSocketsThatCannotBeServedAreNamedAndClosed(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	_, err = Listen(t.Context(), nil, []net.Listener{tcp, nil, unix})
	if err == nil || !strings.Contains(err.Error(), "descriptor 4 is not a listening socket") || !strings.Contains(err.Error(), "descriptor 5 is a unix socket") {
		t.Errorf("Listen gives %v", err)
	}
	for _, l := range []net.Listener{tcp, unix} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the %s socket is still open: %v", l.Addr().Network(), err)
		}
	}
}

func TestNoAddressIsAnError(t *testing.T) {
	if _, err := Listen(t.Context(), nil, nil); err == nil {
		t.Error("a proxy that listens nowhere would start")
	}
}

// A process that replaces another one serves what that one has open, opens what is new, and closes what is gone.
func TestTakenListenersServeTheirAddresses(t *testing.T) {
	had := listen(t, "127.0.0.1", "::1")
	address := func(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }
	fresh := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	listeners, err := Listen(t.Context(), []netip.AddrPort{fresh, address(had[0])}, nil, had...)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(listeners)
	if len(listeners) != 2 || address(listeners[0]) != fresh || listeners[1] != had[0] {
		t.Errorf("the listeners are %v", listeners)
	}
	if _, err := had[1].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the one that is not wanted any more is open: %v", err)
	}
	anyPort := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)
	if again, err := Listen(t.Context(), []netip.AddrPort{anyPort}, nil, had[0]); err != nil || again[0] != had[0] {
		t.Errorf("any port is %v, %v", again, err)
	}
	if inherited, err := Listen(t.Context(), []netip.AddrPort{fresh}, listeners[:1], had[0]); err != nil || inherited[0] != listeners[0] {
		t.Errorf("the inherited listeners are %v, %v", inherited, err)
	}
	if _, err := had[0].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a taken listener is open beside the inherited ones: %v", err)
	}
}
