package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// On a socket for both families an IPv4 client shows as ::ffff:a.b.c.d. It is an IPv4 client to the rules, and ::/0 is
// no rule for it.
func TestIPv4ClientOnAnIPv6SocketIsAnIPv4Client(t *testing.T) {
	t.Parallel()
	requireIPv6(t)
	backend := record(t)
	p := start(t, options{Backend: backend.Address, Config: map[string]any{"listen": []string{"[::]:0"}}})
	port := p.Addr[strings.LastIndexByte(p.Addr, ':')+1:]
	for _, c := range []struct {
		cidr  string
		from4 bool
		from6 bool
	}{
		{"127.0.0.0/8", true, false},
		{"127.0.0.1/32", true, false},
		{"0.0.0.0/0", true, false},
		{"::/0", false, true},
		{"::1/128", false, true},
		{"192.0.2.0/24", false, false},
	} {
		p.edit(t, func(policy *policy) { policy.IPRules = []ipRule{{ID: "only", CIDR: c.cidr}} })
		for host, want := range map[string]bool{"127.0.0.1": c.from4, "::1": c.from6} {
			p.Addr = net.JoinHostPort(host, port)
			conn, err := dialRaw(p)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(patience))
			w := &wire{Conn: conn, socket: conn.(*net.TCPConn), proxy: p}
			w.negotiate(t, clientTLS("app"))
			if want {
				w.login(t, asPostgres())
				w.Close()
				continue
			}
			w.send(t, asPostgres())
			e := w.fatal(t)
			if !strings.HasPrefix(e.Message, fmt.Sprintf("no allowlist entry for host %q,", host)) {
				t.Errorf("rule %s: from %s the client reads %s", c.cidr, host, e.Message)
			}
			if logged := p.connection(t, idOf(t, e.Message)); logged.text("addr") != host {
				t.Errorf("the log has the address %q, want %q", logged.text("addr"), host)
			}
		}
	}
}

func requireIPv6(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6 loopback address: %v", err)
	}
	listener.Close()
}

// A rule is in force from the write to its end: added, taken away, put back, expired.
func TestRuleHoldsFromTheNextConnectionOn(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{Policy: nobody})
	p.refused(t, "")
	p.edit(t, func(p *policy) { p.IPRules = usualPolicy().IPRules })
	p.succeeds(t, "")
	p.edit(t, nobody)
	p.refused(t, "")
	end := time.Now().Add(2 * time.Second)
	p.edit(t, func(p *policy) {
		p.IPRules = []ipRule{{ID: "soon over", CIDR: "127.0.0.1/32", ExpiresAt: end.UTC().Format(time.RFC3339Nano)}}
	})
	if time.Until(end) > 500*time.Millisecond { // unless this machine was too slow
		p.succeeds(t, "")
	}
	eventually.OK(t, patience, func() error {
		if time.Now().Before(end) {
			return eventually.ErrNotYet
		}
		return nil
	})
	p.refused(t, "")
}
