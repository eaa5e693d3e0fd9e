package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// behindLoopback lets connections from this machine announce whom they speak for, and lets the clients in that they announce. The
// balancer itself has no rule.
func behindLoopback(t *testing.T) *proxy {
	return start(t, options{
		Config: map[string]any{"proxy_protocol": []string{"127.0.0.0/8"}},
		Policy: func(p *policy) { p.IPRules = []ipRule{{ID: "office", CIDR: "203.0.113.0/24"}} },
	})
}

// balancer stands before a proxy and puts a header in front of what each client sends. The proxy's address is the
// balancer's from then on.
func balancer(t *testing.T, p *proxy, header string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	behind := p.Addr
	p.Addr = listener.Addr().String()
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			carrying.Go(func() { carry(client, behind, header) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		carrying.Wait()
	})
}

// carry moves bytes both ways until both sides are done.
func carry(client net.Conn, behind, header string) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", behind, patience)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(server, io.MultiReader(strings.NewReader(header), client))
		server.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, server)
}

const binaryHeader = "\r\n\r\n\x00\r\nQUIT\n" + "\x21\x11\x00\x0f" + "\xcb\x00\x71\x07" + "\x0a\x00\x07\x01" + "\x9c\x40\x15\x38" + "\x04\x00\x00"

func TestClientsBehindABalancerAreKnownByTheirOwnAddress(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"version 1": "PROXY TCP4 203.0.113.7 10.0.7.1 40000 5432\r\n",
		"version 2": binaryHeader,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t)
			p := behindLoopback(t)
			balancer(t, p, header)
			p.succeeds(t, "")
			interrupt(t, p, s, pgtest.Client{}, "")
			p.waitMetric(t, `pgmtls_cancel_requests_total{result="forwarded"}`, 1)
			for _, outcome := range []string{"served", "cancel_forwarded"} {
				var e event
				eventually.OK(t, patience, func() error {
					if e = p.log.find(func(e event) bool { return e.text("outcome") == outcome }); e == nil {
						return fmt.Errorf("nothing is %s", outcome)
					}
					return nil
				})
				if e.text("addr") != "203.0.113.7" || e.text("via") != "127.0.0.1" {
					t.Errorf("the log has %v", e)
				}
			}
		})
	}
}

func TestClientsBehindABalancerNeedARuleOfTheirOwn(t *testing.T) {
	t.Parallel()
	p := behindLoopback(t)
	p.edit(t, func(policy *policy) {
		policy.IPRules = append(policy.IPRules, ipRule{ID: "balancer", CIDR: "127.0.0.0/8"})
	})
	balancer(t, p, "PROXY TCP6 2001:db8::7 2001:db8::1 40000 5432\r\n")
	text, ids := p.refused(t, "")
	if !strings.Contains(text, `no allowlist entry for host "2001:db8::7"`) {
		t.Errorf("psql shows %s", text)
	}
	if e := p.connection(t, ids[0]); e.text("addr") != "2001:db8::7" || e.text("via") != "127.0.0.1" {
		t.Errorf("the log has %v", e)
	}
}

func TestHeaderIsRequiredWhereItIsAwaitedAndRefusedElsewhere(t *testing.T) {
	t.Parallel()
	header := []byte("PROXY TCP4 203.0.113.7 10.0.7.1 40000 5432\r\n")
	for name, row := range map[string]struct {
		balancers string
		opening   []byte
		message   string
	}{
		"awaited and missing": {"127.0.0.0/8", sslRequest, "no valid PROXY protocol header"},
		"from elsewhere":      {"10.0.7.0/28", header, "invalid length of startup packet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := record(t)
			p := start(t, options{Backend: backend.Address, Config: map[string]any{"proxy_protocol": []string{row.balancers}}})
			w := dial(t, p)
			w.send(t, row.opening)
			if e := w.fatal(t); e.Code != "08P01" || withoutID(e.Message) != row.message {
				t.Errorf("the client reads %s %s", e.Code, e.Message)
			}
			backend.untouched(t)
		})
	}
}

func TestBalancersCheckIsAQuietProbe(t *testing.T) {
	t.Parallel()
	p := behindLoopback(t)
	w := dial(t, p)
	w.send(t, []byte("PROXY UNKNOWN\r\n"))
	w.ended(t)
	p.waitMetric(t, "pgmtls_probes_total", 1)
}
