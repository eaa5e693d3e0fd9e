package session

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// knock is a client that gets an answer, at the price of no handshake, if it is answered at all.
func (w *world) knock(from netip.Addr) (answered bool) {
	w.t.Helper()
	c := w.connect(from)
	c.wire.Write(startupPacket("user", "app"))
	buf := make([]byte, 1)
	n, _ := c.wire.Read(buf)
	c.leave()
	<-c.over
	return n == 1
}

// inOneBucket finds out whether two addresses share a bucket by their hash, which a test can't choose.
func (b *buckets) inOneBucket(x, y netip.Addr) bool { return b.of(x) == b.of(y) }

func TestStrangersAreAnsweredAtARateAndThenClosedWithoutAByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		neighbour := netip.MustParseAddr("192.0.2.9") // of the same /24
		for i := range perPrefixPerSecond * 10 {
			if !w.knock(outside) {
				t.Fatalf("stranger %d is not answered", i+1)
			}
		}
		for range 3 {
			if w.knock(outside) || w.knock(neighbour) {
				t.Fatal("a stranger is answered beyond the rate")
			}
		}
		if n := w.refused("address_shed"); n != 6 {
			t.Errorf("counted %d, want 6", n)
		}
		elsewhere := netip.MustParseAddr("100.64.0.1")
		for w.sessions.admission.unlistedRate.inOneBucket(elsewhere, outside) {
			elsewhere = elsewhere.Next()
		}
		if !w.knock(elsewhere) {
			t.Error("a stranger of another network is not answered")
		}
		if !w.knock(home) {
			t.Error("an allowed address is not answered")
		}
		pass(time.Second)
		if !w.knock(outside) || !w.knock(neighbour) || w.knock(outside) {
			t.Error("a second gives other than 2 answers")
		}
	})
}

func TestAllStrangersTogetherHaveARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuckets(unlistedPerSecond, unlistedBurst, perPrefixPerSecond, perPrefixBurst)
		addr, taken := netip.MustParseAddr("2001:db8::1"), 0
		for range 10 * unlistedBurst {
			if b.take(addr) {
				taken++
			}
			next := addr.As16()
			next[4], next[5] = next[4]+byte(uint16(next[5])+1>>8), next[5]+1 // the next /48
			addr = netip.AddrFrom16(next)
		}
		if taken != unlistedBurst {
			t.Errorf("%d are answered at once, want %d", taken, unlistedBurst)
		}
	})
}

func TestPrefixesShareABucket(t *testing.T) {
	b := newBuckets(1, 1, 1, 1)
	for _, row := range []struct {
		x, y string
		same bool
	}{
		{"192.0.2.1", "192.0.2.255", true},
		{"2001:db8:1::1", "2001:db8:1:ffff::2", true},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if got := b.inOneBucket(netip.MustParseAddr(row.x), netip.MustParseAddr(row.y)); got != row.same {
			t.Errorf("%s and %s share a bucket: %v", row.x, row.y, got)
		}
	}
	if b.of(netip.Addr{}) == nil {
		t.Error("a connection without an address has no bucket")
	}
	// Neighbouring networks don't all end in one.
	seen := map[any]bool{}
	for i := range 64 {
		seen[b.of(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}))] = true
	}
	if len(seen) < 32 {
		t.Errorf("64 networks share %d buckets", len(seen))
	}
}

func TestLookingAtABucketTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuckets(1, 2, 1, 1)
		for range 10 {
			if b.empty(home) {
				t.Fatal("a full bucket is empty")
			}
		}
		if !b.take(home) || !b.empty(home) || b.take(home) {
			t.Error("one token is not one token")
		}
	})
}
