//go:build soak

package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// A thousand clients that send a byte a second, in each phase: they keep nobody out, and are gone at the deadline
// (threat 2).
func TestThousandSlowClientsInEachPhaseKeepNobodyOut(t *testing.T) {
	for _, phase := range phases {
		t.Run(phase.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				slow := make([]*client, 1000)
				for i := range slow {
					slow[i] = w.connect(home)
					phase.reach(slow[i], true)
				}
				pass(time.Second)
				began := time.Now()
				client := w.connect(office)
				client.login(pki().other, "app")
				if took := time.Since(began); took >= time.Second {
					t.Errorf("a client waits for %v", took)
				}
				if phase.inTLS { // they read why, all in the same moment
					for _, c := range slow {
						c.wantFatal("57014", "canceling authentication due to timeout")
						c.wire.Close()
					}
				}
				for _, c := range slow {
					<-c.over
				}
				if took := time.Since(slow[0].since); took > 11*time.Second {
					t.Errorf("ended after %v", took)
				}
				for _, c := range slow {
					c.leave()
				}
				client.send(query)
				client.want(queryAnswer)
				client.leave()
			})
		})
	}
}
