//go:build soak

package acme

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/testkit/acmetest"
)

// Five hundred databases that are enabled at once have their certificates within a minute, with an authority that asks
// for a second between two looks. One alone takes two seconds at most.
func TestFiveHundredCertificatesTakeAMinute(t *testing.T) {
	w := newWorld(t, acmetest.Options{RetryAfter: 1}, nil, nil)
	w.log = zerolog.Nop()
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	real := time.Now()
	clock := func() { // the world's clock goes with the real one
		w.mu.Lock()
		defer w.mu.Unlock()
		w.moment = time.Now().UTC()
	}
	issue := func(from, to int) time.Duration {
		start := time.Now()
		for i := from; i < to; i++ {
			_, err := w.Want(w.ctx, Want{ID: fmt.Sprint(i), Space: "acme", Names: []string{fmt.Sprintf("db%d.%s", i, zone)}})
			w.done(err)
		}
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			<-tick.C
			clock()
			left := 0
			items, _, err := w.docs.List(w.ctx, keyCertificates)
			w.done(err)
			for _, item := range items {
				cert, err := decodeCertificate(item)
				w.done(err)
				if cert.Leaf == nil {
					left++
				}
			}
			if left == 0 {
				tick.Stop()
				return time.Since(start)
			}
		}
	}
	one := issue(0, 1)
	all := issue(1, 501)
	t.Logf("one: %s; 500 at once: %s; since the start: %s", one, all, time.Since(real))
	if one > 2*time.Second || all > time.Minute {
		t.Errorf("one took %s, 500 took %s", one, all)
	}
	stop()
	<-ended
}
