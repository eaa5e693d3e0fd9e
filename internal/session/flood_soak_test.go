//go:build soak

package session

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

// A flood of handshakes from strangers leaves allowed clients' connects within twice of their time (threat 3): beyond
// their ration strangers cost an accept and a close. The strangers' own work, and the clients', is done by the same
// processors here, so the flood has a rate: some twenty times what strangers are rationed to.
func TestFloodOfStrangersLeavesClientsTheirLatency(t *testing.T) {
	const (
		measured   = 1000
		perSecond  = 1000
		rounds     = 3
		atMost     = 2.0
		percentile = 0.99
	)
	g := newGate(t, nil)
	measure := func() time.Duration {
		took := make([]time.Duration, measured)
		for i := range took {
			took[i] = g.connectTime()
		}
		slices.Sort(took)
		return took[int(percentile*measured)]
	}
	measure() // warm
	var quiet, flooded []time.Duration
	var knocks atomic.Int64
	for range rounds {
		quiet = append(quiet, measure())
		ctx, stop := context.WithCancel(t.Context())
		var flood sync.WaitGroup
		flood.Go(func() { g.floodOfStrangers(ctx, perSecond, &knocks) })
		flooded = append(flooded, measure())
		stop()
		flood.Wait()
	}
	// The best of the rounds: what else the machine does is no doing of the flood's.
	calm, busy := slices.Min(quiet), slices.Min(flooded)
	t.Logf("p99 of a connect: %v quiet, %v with %d strangers (%v and %v in each round)", calm, busy, knocks.Load(), quiet, flooded)
	if ratio := float64(busy) / float64(calm); ratio >= atMost {
		t.Errorf("%.2f times as long, want less than %.1f", ratio, atMost)
	}
	if g.refused("address_shed") == 0 {
		t.Error("no stranger was shed")
	}
}

// connectTime is a client's way from its first packet to ReadyForQuery.
func (g *gate) connectTime() time.Duration {
	conn := g.dial(loopback)
	defer conn.Close()
	began := time.Now()
	secured := g.login(conn)
	if secured == nil {
		return time.Since(began)
	}
	took := time.Since(began)
	secured.Write([]byte(message('X', "")))
	g.expect(secured, "")
	return took
}

// floodOfStrangers knocks at a rate from addresses in many networks that no rule allows, and shakes hands with whoever
// is answered.
func (g *gate) floodOfStrangers(ctx context.Context, perSecond int, knocks *atomic.Int64) {
	var busy sync.WaitGroup
	defer busy.Wait()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		for range perSecond / 100 {
			n := knocks.Add(1)
			busy.Go(func() {
				conn := g.dial(netip.AddrFrom4([4]byte{127, 1, byte(n), 1}))
				defer conn.Close()
				conn.Write(request(pgwire.SSLRequestCode))
				if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
					tls.Client(conn, clientTLS(pki().app)).Handshake()
				}
			})
		}
	}
}
