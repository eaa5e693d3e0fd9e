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

// Five hundred databases that are enabled at once all get their certificates, with an authority that asks for a second
// between two looks. The goals are two seconds for one alone, and a minute for all; a machine that does other work misses
// them, so they are logged.
func TestFiveHundredCertificatesAtOnce(t *testing.T) {
	w := newWorld(t, acmetest.Options{RetryAfter: 1}, nil, nil)
	w.log = zerolog.Nop()
	patient, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	w.ctx = patient
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
		for tick := time.NewTicker(200 * time.Millisecond); ; {
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
	if one > 30*time.Second || all > 10*time.Minute {
		t.Errorf("one took %s, 500 took %s", one, all)
	}
	stop()
	<-ended
}
