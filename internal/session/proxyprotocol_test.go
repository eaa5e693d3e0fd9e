package session

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

// balancer is an address of the network whose connections begin with a header.
var balancer = netip.MustParseAddr("10.0.7.3")

func behindBalancers(c *Config) {
	c.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("10.0.7.0/28"), netip.MustParsePrefix("fe80::/64")}
}

// announcing is a header of version 1.
func announcing(client netip.Addr) []byte {
	return fmt.Appendf(nil, "PROXY TCP4 %s 192.0.2.53 40000 5432\r\n", client)
}

// announcing2 is one of version 2.
func announcing2(command, family byte, body []byte) []byte {
	head := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...)
}

// through connects by the balancer.
func (w *world) through(from netip.Addr, header []byte) *client {
	c := w.connect(from)
	c.send(header)
	return c
}

func TestAnnouncedAddressIsTheClients(t *testing.T) {
	zoned := netip.MustParseAddr("fe80::1%eth0")
	for name, row := range map[string]struct {
		from   netip.Addr
		header []byte
	}{
		"version 1":                     {balancer, announcing(home)},
		"version 2":                     {balancer, announcing2(0x21, 0x11, append(home.AsSlice(), 1, 1, 1, 1, 0, 1, 0, 2))},
		"a balancer that is link-local": {zoned, announcing(home)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, behindBalancers)
				c := w.through(row.from, row.header)
				c.login(pki().app, "app")
				if live := w.sessions.Table().Sessions(); len(live) != 1 || live[0].Addr != home || live[0].Via != row.from || live[0].Grant.Rule.ID != "home" {
					t.Errorf("sessions: %+v", live)
				}
				c.leave()
				w.wait()
				if e := w.last(); e["addr"] != home.String() || e["via"] != row.from.String() || e["rule"] != "home" {
					t.Errorf("logged as %v", e)
				}
			})
		})
	}
}

// A rule for the balancer lets nobody in that it does not name.
func TestAnnouncedAddressIsJudgedAndNotTheBalancers(t *testing.T) {
	sockets := make([]byte, 216)
	for name, header := range map[string][]byte{
		"another client":         announcing(outside),
		"a unix socket's client": announcing2(0x21, 0x31, sockets),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, behindBalancers)
				w.apply("2", `ip_rules: [{id: balancers, cidr: 10.0.7.0/28}]`)
				c := w.through(balancer, header)
				c.handshake(pki().app)
				c.send(startupPacket("user", "app"))
				c.fatal()
				c.leave()
				<-c.over
				w.database.untouched()
				if w.refused("address_not_allowed") != 1 {
					t.Errorf("logged as %v", w.last())
				}
			})
		})
	}
}

func TestHeaderFromElsewhereIsNoOpening(t *testing.T) {
	for name, header := range map[string][]byte{
		"version 1": announcing(office),
		"version 2": announcing2(0x21, 0x11, append(office.AsSlice(), 1, 1, 1, 1, 0, 1, 0, 2)),
		"local":     announcing2(0x20, 0, nil),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, behindBalancers)
				c := w.through(home, append(header, request(pgwire.SSLRequestCode)...))
				c.wantFatal("08P01", "invalid length of startup packet")
				c.leave()
				<-c.over
				w.database.untouched()
				if e := w.last(); e["addr"] != home.String() || e["via"] != nil || w.refused("protocol_violation") != 1 {
					t.Errorf("logged as %v", e)
				}
			})
		})
	}
}

func TestBalancerWithoutAHeaderIsToldSo(t *testing.T) {
	for name, opening := range map[string][]byte{
		"none":      request(pgwire.SSLRequestCode),
		"malformed": []byte("PROXY TCP4 home 192.0.2.53 40000 5432\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, behindBalancers)
				w.apply("2", `ip_rules: [{id: balancers, cidr: 10.0.7.0/28}]`)
				c := w.through(balancer, opening)
				c.wantFatal("08P01", "no valid PROXY protocol header")
				c.leave()
				<-c.over
				w.database.untouched()
				if w.refused("protocol_violation") != 1 {
					t.Errorf("logged as %v", w.last())
				}
			})
		})
	}
}

func TestBalancersOwnConnectionIsAProbe(t *testing.T) {
	for name, header := range map[string][]byte{
		"LOCAL":       announcing2(0x20, 0, nil),
		"UNKNOWN":     []byte("PROXY UNKNOWN\r\n"),
		"unspecified": announcing2(0x21, 0, nil),
		"no byte":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, behindBalancers)
				w.apply("2", `ip_rules: [{id: balancers, cidr: 10.0.7.0/28}]`)
				c := w.through(balancer, header)
				if header == nil {
					c.wire.CloseWrite()
				}
				c.wantSilence()
				<-c.over
				w.database.untouched()
				if w.metric("probes_total") != 1 || w.last()["outcome"] != "probe" {
					t.Errorf("logged as %v", w.last())
				}
			})
		})
	}
}

func TestSlowHeaderMeetsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, behindBalancers)
		c := w.connect(balancer)
		c.drip(announcing(home), 0, true)
		c.wantSilence()
		if took := c.served(); took != 10*time.Second || w.refused("startup_timeout") != 1 {
			t.Errorf("ended after %v: %v", took, w.last())
		}
		c.leave()
	})
}

func TestAnnouncedAddressHasItsOwnLimitAndItsOwnCancelRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) {
			behindBalancers(c)
			c.MaxSessionsPerAddress = 1
		})
		first := w.through(balancer, announcing(home))
		first.login(pki().app, "app")
		second := w.through(balancer, announcing(home))
		second.handshake(pki().app)
		second.send(startupPacket("user", "app"))
		second.wantFatal("53300", tooMany)
		second.leave()
		other := w.through(balancer, announcing(office))
		other.login(pki().other, "app")

		key := cancelPacket(4711, "\x01\xfeKe")
		foreign := w.through(balancer, append(announcing(outside), key...))
		foreign.wantSilence()
		<-foreign.over
		if w.metric("cancel_requests_total", "denied") != 1 {
			t.Error("another client of the balancer cancels")
		}
		other.leave()
		first.leave()
	})
}
