package session

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

func TestUnfinishedConnectionsOfAnAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.UnfinishedPerAddress = 2 })
		first, second := w.connect(home), w.connect(home)
		synctest.Wait()
		third := w.connect(home)
		third.wantFatal("53300", tooMany)
		third.leave()
		<-third.over
		if w.last()["error"] != "too many unfinished connections from this address" || w.refused("rate_limited") != 1 {
			t.Errorf("logged as %v", w.last())
		}

		other := w.connect(office) // another address has its own
		other.login(pki().other, "app")
		first.login(pki().app, "app") // a session is none of them
		fourth := w.connect(home)
		fourth.login(pki().app, "app")
		second.leave() // nor is one that is over
		<-second.over
		fifth := w.connect(home)
		fifth.login(pki().app, "app")
		for _, c := range []*client{first, fourth, fifth, other} {
			c.leave()
		}
		w.wait()
		if n := len(w.sessions.admission.unfinished.addresses); n != 0 {
			t.Errorf("%d addresses are left", n)
		}
	})
}

func TestAddressesOfOneIPv6NetworkCountAsOne(t *testing.T) {
	for text, want := range map[string]string{
		"2001:db8::1:2:3:4": "2001:db8::", "2001:db8:0:1::1": "2001:db8:0:1::", "fe80::1%eth0": "fe80::", "203.0.113.7": "203.0.113.7",
	} {
		if got := network64(netip.MustParseAddr(text)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: got %s", text, got)
		}
	}
	if got := network64(netip.Addr{}); got.IsValid() {
		t.Errorf("no address: got %s", got)
	}
}

func TestHandshakesHaveARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.HandshakesPerSecond = 4 })
		for range 2 { // one network has half of them
			c := w.connect(home)
			c.login(pki().app, "app")
			c.leave()
		}
		late := w.connect(home)
		late.send(request(pgwire.SSLRequestCode))
		late.wantFatal("53300", tooMany)
		late.leave()
		<-late.over
		if w.last()["error"] != "too many handshakes a second" || w.refused("rate_limited") != 1 {
			t.Errorf("logged as %v", w.last())
		}
		direct := w.connect(home)
		direct.send([]byte{0x16, 3, 1, 0, 200, 1, 0, 0})
		direct.wantSilence()
		direct.leave()

		other := w.connect(office)
		other.login(pki().other, "app")
		other.leave()
		pass(time.Second)
		again := w.connect(home)
		again.login(pki().app, "app")
		again.leave()
		w.wait()
	})
}

// Strangers have a rate of their own, and take nothing from the clients.
func TestStrangersTakeNoHandshakeOfTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.HandshakesPerSecond = 2 })
		for range 20 {
			w.knock(outside)
		}
		c := w.connect(home)
		c.login(pki().app, "app")
		c.leave()
		w.wait()
	})
}

func TestClientsBeyondALimitAreToldAtARateAndThenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.UnfinishedPerAddress = 1 })
		slow := w.connect(home)
		synctest.Wait()
		for range refusalsPerPrefixBurst {
			c := w.connect(home)
			c.wantFatal("53300", tooMany)
			c.leave()
		}
		c := w.connect(home)
		c.wantSilence()
		c.leave()
		slow.leave()
		w.wait()
		if n := w.refused("rate_limited"); n != refusalsPerPrefixBurst+1 {
			t.Errorf("counted %d", n)
		}
	})
}

// However many strangers are answered, one of them computes at a time, and none waits in the clients' place.
func TestStrangersHandshakesHaveATurnOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.sessions.admission.unlistedSlots <- struct{}{} // a stranger's handshake that computes
		stranger := w.connect(outside)
		stranger.stall(stalled{whole: 1})
		c := w.connect(home)
		c.login(pki().app, "app")
		c.leave()
		if took := stranger.served(); took != 10*time.Second || w.refused("startup_timeout") != 1 {
			t.Errorf("the second stranger ended after %v: %v", took, w.last())
		}
		stranger.leave()
		<-w.sessions.admission.unlistedSlots
		other := w.connect(outside)
		other.handshake(nil)
		other.send(startupPacket("user", "app"))
		other.fatal()
		other.leave()
		w.wait()
	})
}
