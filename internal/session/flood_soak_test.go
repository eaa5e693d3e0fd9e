//go:build soak

package session

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/testkit/eventually"
)

// A flood of handshakes from strangers leaves allowed clients' connects within twice of their time (threat 3): beyond
// their ration strangers cost an accept and a close. The strangers' own work, and the clients', is done by the same
// processors here, so the flood has a rate: some twenty times what strangers are rationed to.
func TestFloodOfStrangersLeavesClientsTheirLatency(t *testing.T) {
	const (
		rounds    = 8
		perRound  = 250
		perSecond = 1000
		atMost    = 2.0
	)
	g := newGate(t, nil)
	var knocks atomic.Int64
	measure := func(into []time.Duration) []time.Duration {
		for range perRound {
			into = append(into, g.connectTime())
		}
		return into
	}
	measure(nil) // warm
	var quiet, flooded []time.Duration
	for range rounds { // in turn, since the machine may have other things to do
		quiet = measure(quiet)
		ctx, stop := context.WithCancel(t.Context())
		var flood sync.WaitGroup
		shed := g.refused("address_shed")
		flood.Go(func() { g.floodOfStrangers(ctx, perSecond, &knocks) })
		eventually.OK(t, patience, func() error { // until the first burst is answered
			if g.refused("address_shed") < shed+perSecond/4 {
				return errors.New("no stranger is shed")
			}
			return nil
		})
		flooded = measure(flooded)
		stop()
		flood.Wait()
	}
	for _, percentile := range []float64{0.5, 0.9, 0.99} {
		calm, busy := at(quiet, percentile), at(flooded, percentile)
		t.Logf("p%g of a connect: %v quiet, %v with %d strangers", 100*percentile, calm, busy, knocks.Load())
		if ratio := float64(busy) / float64(calm); ratio >= atMost {
			t.Errorf("%.2f times as long, want less than %.1f", ratio, atMost)
		}
	}
}

// at is a percentile.
func at(took []time.Duration, percentile float64) time.Duration {
	slices.Sort(took)
	return took[int(percentile*float64(len(took)))]
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
