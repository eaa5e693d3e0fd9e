package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// What is kept although its permission has ended must not make the sweep come again and again at once.
func TestSweepDoesNotWaitForAMomentThatIsOver(t *testing.T) {
	for name, keep := range map[string]string{
		"on_removal keep":       "on_removal: keep",
		"another rule is there": "on_removal: end",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
				w.apply("2", `ip_rules: [{id: home, cidr: 203.0.113.0/24, expires_at: `+end+`}, {id: wide, cidr: 203.0.0.0/16}]`, keep)
				c := w.connect(home)
				c.login(pki().app, "app")
				if next := w.sessions.sweepOnce(time.Now()); next != sweepAtLeast {
					t.Errorf("an hour before: the next sweep comes in %v", next)
				}
				pass(time.Hour - time.Second)
				if next := w.sessions.sweepOnce(time.Now()); next != time.Second {
					t.Errorf("a second before: the next sweep comes in %v", next)
				}
				pass(time.Second)
				for range 2 {
					if next := w.sessions.sweepOnce(time.Now()); next != sweepAtLeast {
						t.Errorf("at the moment itself: the next sweep comes in %v", next)
					}
				}
				c.send(query)
				c.want(queryAnswer)
				c.leave()
			})
		})
	}
}
