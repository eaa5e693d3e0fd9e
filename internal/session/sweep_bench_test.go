package session

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// BenchmarkSweep5000 asks 5,000 live sessions of one client certificate for their permission, under 60 rules. What
// judging as many certificates costs is policy's BenchmarkReview.
func BenchmarkSweep5000(b *testing.B) {
	rules := []string{"ip_rules:", "  - {id: home, cidr: 203.0.113.0/24}"}
	for i := range 59 {
		rules = append(rules, fmt.Sprintf("  - {id: rule-%d, cidr: 10.%d.0.0/16}", i, i))
	}
	sixty := strings.Join(rules, "\n")
	for name, change := range map[string][]string{
		"SameTrust":    {"identities: []", "identities: []"},
		"ChangedTrust": {"revoked: ['01']", "revoked: ['02']"},
	} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, func(c *Config) { c.Log = zerolog.Nop() })
			w.apply("2", sixty)
			first := w.connect(home)
			first.login(pki().app, "app")
			from := w.sessions.table.list()[0]
			for i := range 4999 {
				c := w.enterableFrom(netip.AddrFrom4([4]byte{10, byte(i % 59), byte(i >> 8), byte(i)}))
				c.tls = from.tls
				if err := c.authorize(); err != nil {
					b.Fatal(err)
				}
				if err := c.enter(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			turn := 0
			for b.Loop() {
				b.StopTimer()
				turn++
				w.apply(fmt.Sprint("turn ", turn), sixty, change[turn%2])
				b.StartTimer()
				w.sessions.sweepOnce(time.Now())
			}
			for _, c := range w.sessions.table.list() {
				if c.told() {
					b.Error("a session is told to end")
				}
				if c != from {
					c.tls = nil
					c.end(errDone)
				}
			}
			first.leave()
		})
	}
}
