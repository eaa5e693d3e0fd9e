package allowlist

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNilAndEmptySetsAllowNobody(t *testing.T) {
	empty, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]*Set{"nil": nil, "zero rules": empty} {
		for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
			if got := verdict(set, netip.MustParseAddr(addr), newYear); got != "deny" {
				t.Errorf("%s: %s: %s", name, addr, got)
			}
		}
		if n := len(set.Rules()); n != 0 {
			t.Errorf("%s: %d rules", name, n)
		}
	}
}

func TestInvalidAddressMatchesNothing(t *testing.T) {
	set := mustSet(t, "0.0.0.0/0", "::/0")
	if got := verdict(set, netip.Addr{}, newYear); got != "deny" {
		t.Errorf("the zero address: %s", got)
	}
}

func TestRuleEndsAtItsExpiry(t *testing.T) {
	set, err := New([]Rule{{ID: "short", Prefix: netip.MustParsePrefix("192.0.2.1/32"), ExpiresAt: newYear}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		now  time.Time
		want string
	}{
		{newYear.Add(-time.Second), "short"},
		{newYear.Add(-1), "short"},
		{newYear, "deny"},
		{newYear.Add(time.Second), "deny"},
		{newYear.Add(-time.Second).In(time.FixedZone("far east", 14*3600)), "short"},
	} {
		if got := verdict(set, netip.MustParseAddr("::ffff:192.0.2.1"), c.now); got != c.want {
			t.Errorf("at %v: %s, want %s", c.now, got, c.want)
		}
	}
}

func TestBadRulesAreAllNamedWithTheirFix(t *testing.T) {
	prefix := func(text string) netip.Prefix { return netip.MustParsePrefix(text) }
	_, err := New([]Rule{
		{ID: "good", Prefix: prefix("10.0.0.0/8")},
		{ID: "bits", Prefix: prefix("10.0.0.1/8")},
		{ID: "bits6", Prefix: prefix("2001:db8::1/32")},
		{ID: "again", Prefix: prefix("10.0.0.0/8")},
		{ID: "mapped", Prefix: prefix("::ffff:192.0.2.0/120")},
		{ID: "mapped host", Prefix: netip.PrefixFrom(netip.MustParseAddr("::ffff:192.0.2.1"), 128)},
		{ID: "none"},
		{ID: "evil\x1b[2J" + strings.Repeat("x", 100)},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{
		"rule bits: 10.0.0.1/8 has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1/32 for the one address",
		"rule bits6: 2001:db8::1/32 has host bits set; write 2001:db8::/32 for the network or 2001:db8::1/128 for the one address",
		"rule again: 10.0.0.0/8 is a duplicate of rule good; remove one of them",
		"rule mapped: ::ffff:192.0.2.0/120 is IPv4 in IPv6 notation; write 192.0.2.0/24",
		"rule mapped host: ::ffff:192.0.2.1/128 is IPv4 in IPv6 notation; write 192.0.2.1/32",
		"rule none: no valid prefix; write one like 192.0.2.0/24 or 2001:db8::/32",
		`rule evil\x1b[2J` + strings.Repeat("x", 56) + "…: no valid prefix; write one like 192.0.2.0/24 or 2001:db8::/32",
	}
	if len(got) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
}

func TestSetIsACopyOfItsRules(t *testing.T) {
	rules := []Rule{{ID: "a", Prefix: netip.MustParsePrefix("192.0.2.1/32")}}
	set, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	rules[0].ID, rules[0].ExpiresAt = "changed", newYear
	set.Rules()[0].ExpiresAt = newYear
	if got := verdict(set, netip.MustParseAddr("192.0.2.1"), newYear.Add(time.Hour)); got != "a" {
		t.Errorf("got %s", got)
	}
}

// reference answers as the definition does: the address and the prefixes as big integers, every rule looked at.
func reference(rules []Rule, addr netip.Addr, now time.Time) string {
	addr = addr.Unmap()
	best, bits := "deny", -1
	for _, r := range rules {
		if r.Prefix.Addr().BitLen() != addr.BitLen() || r.Prefix.Bits() <= bits {
			continue
		}
		if !r.ExpiresAt.IsZero() && r.ExpiresAt.Unix() <= now.Unix() {
			continue
		}
		shift := uint(addr.BitLen() - r.Prefix.Bits())
		a := new(big.Int).SetBytes(addr.AsSlice())
		p := new(big.Int).SetBytes(r.Prefix.Addr().AsSlice())
		if a.Rsh(a, shift).Cmp(p.Rsh(p, shift)) == 0 {
			best, bits = r.ID, r.Prefix.Bits()
		}
	}
	return best
}

func TestMatchAgreesWithABigIntegerReference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	allowed := 0
	for round := range 400 {
		rules := randomRules(random, 1+random.IntN(60))
		set, err := New(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			addr := randomAddr(random, rules)
			want := reference(rules, addr, newYear)
			if got := verdict(set, addr, newYear); got != want {
				t.Fatalf("round %d: %v: %s, want %s, of\n%v", round, addr, got, want, rules)
			}
			if want != "deny" {
				allowed++
			}
		}
	}
	if allowed < 4000 || allowed > 36000 {
		t.Errorf("%d of 40000 addresses allowed: the test asks one side only", allowed)
	}
}

// randomRules makes canonical, distinct rules, many of them nested in one another.
func randomRules(random *rand.Rand, n int) []Rule {
	seen := map[netip.Prefix]bool{}
	var rules []Rule
	for len(rules) < n {
		addr := randomAddr(random, rules).Unmap()
		prefix, err := addr.Prefix(random.IntN(addr.BitLen() + 1))
		if err != nil || seen[prefix] {
			continue
		}
		seen[prefix] = true
		rule := Rule{ID: fmt.Sprint(len(rules)), Prefix: prefix}
		if random.IntN(4) == 0 {
			rule.ExpiresAt = newYear.Add(time.Duration(random.IntN(3)-1) * time.Second)
		}
		rules = append(rules, rule)
	}
	return rules
}

// randomAddr makes an address that is near a rule as often as not: a bit of the rule's own address flipped.
func randomAddr(random *rand.Rand, rules []Rule) netip.Addr {
	bytes := make([]byte, 4)
	if random.IntN(2) == 0 {
		bytes = make([]byte, 16)
	}
	for i := range bytes {
		bytes[i] = byte(random.Uint32())
	}
	if len(rules) > 0 && random.IntN(2) == 0 {
		bytes = rules[random.IntN(len(rules))].Prefix.Addr().AsSlice()
		bit := random.IntN(8 * len(bytes))
		bytes[bit/8] ^= 1 << (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	if addr.Is4() && random.IntN(3) == 0 {
		addr = netip.AddrFrom16(addr.As16())
	}
	return addr
}

func TestMatchIsSafeForConcurrentUse(t *testing.T) {
	set := mustSet(t, "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				if got := verdict(set, netip.MustParseAddr("10.1.2.3"), newYear); got != "10.1.0.0/16" {
					t.Errorf("got %s", got)
					return
				}
			}
		})
	}
	group.Wait()
}

func mustSet(t testing.TB, prefixes ...string) *Set {
	t.Helper()
	var rules []Rule
	for _, text := range prefixes {
		rules = append(rules, Rule{ID: text, Prefix: netip.MustParsePrefix(text)})
	}
	set, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func BenchmarkMatch60(b *testing.B) {
	rules := randomRules(rand.New(rand.NewPCG(3, 4)), 58)
	rules = append(rules, Rule{ID: "office", Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		Rule{ID: "site", Prefix: netip.MustParsePrefix("2001:db8::/32")})
	set, err := New(rules)
	if err != nil {
		b.Fatal(err)
	}
	for _, text := range []string{"192.0.2.7", "203.0.113.7", "2001:db8::7"} {
		b.Run(text, func(b *testing.B) {
			addr := netip.MustParseAddr(text)
			b.ReportAllocs()
			for b.Loop() {
				set.Match(addr, newYear)
			}
		})
	}
}
