package connlimit

import (
	"errors"
	"net"
	"testing"
)

// offered is a listener that is given its connections.
type offered struct{ conns chan net.Conn }

func (o offered) Accept() (net.Conn, error) {
	conn, open := <-o.conns
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (offered) Close() error   { return nil }
func (offered) Addr() net.Addr { return &net.TCPAddr{} }

// from is a connection from an address.
type from struct {
	net.Conn
	addr   net.Addr
	closed *bool
}

func (f from) RemoteAddr() net.Addr { return f.addr }
func (f from) Close() error         { *f.closed = true; return nil }

func client(address string) (conn net.Conn, closed *bool) {
	closed = new(bool)
	if address == "" {
		return from{addr: &net.UnixAddr{}, closed: closed}, closed
	}
	return from{addr: &net.TCPAddr{IP: net.ParseIP(address)}, closed: closed}, closed
}

func TestConnectionsAreBoundedOverallAndForEachAddress(t *testing.T) {
	for name, row := range map[string]struct {
		first []string
		next  string
		in    bool
	}{
		"the first":                         {nil, "192.0.2.1", true},
		"the last of an address":            {[]string{"192.0.2.1"}, "192.0.2.1", true},
		"one too many of an address":        {[]string{"192.0.2.1", "192.0.2.1"}, "192.0.2.1", false},
		"another address":                   {[]string{"192.0.2.1", "192.0.2.1"}, "192.0.2.2", true},
		"a /64 counts as one":               {[]string{"2001:db8::1", "2001:db8::2:0:0:1"}, "2001:db8::3", false},
		"another /64":                       {[]string{"2001:db8::1", "2001:db8::2"}, "2001:db8:0:1::1", true},
		"IPv4 in IPv6 is IPv4":              {[]string{"192.0.2.1", "::ffff:192.0.2.1"}, "192.0.2.1", false},
		"one too many overall":              {[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}, "192.0.2.5", false},
		"unix sockets count overall":        {[]string{"", "", ""}, "", true},
		"one too many overall, unix socket": {[]string{"", "", "", ""}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			inner := offered{make(chan net.Conn, 10)}
			l := New(inner, 4, 2)
			var open []net.Conn
			for _, address := range row.first {
				conn, _ := client(address)
				inner.conns <- conn
				accepted, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, accepted)
			}
			conn, closed := client(row.next)
			inner.conns <- conn
			close(inner.conns)
			accepted, err := l.Accept()
			if row.in != (err == nil) || row.in == *closed || !row.in && !errors.Is(err, net.ErrClosed) {
				t.Errorf("accepted: %v, %v; closed: %v", accepted, err, *closed)
			}
			if row.in {
				open = append(open, accepted)
			}
			for _, conn := range open {
				conn.Close()
				conn.Close() // counts once
			}
			if l.all != (counts{}) || len(l.addresses) != 0 {
				t.Errorf("%d connections of %d addresses are still counted", l.all.open, len(l.addresses))
			}
		})
	}
}
