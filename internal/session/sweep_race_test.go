package session

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// Sessions begin and end all the time, while the policy takes a rule away and gives it back. In the end every session
// that it refuses has been told to end, no other one ever was, and every change has its receipt.
func TestNoSessionSlipsThroughAndNoOtherIsEndedWhilePoliciesSwap(t *testing.T) {
	w := newWorld(t, nil)
	defer w.sweeping()()
	w.apply("with", bothIn, "client_auth: off")
	var told atomic.Int64
	var over atomic.Bool
	var coming sync.WaitGroup
	for i := range 6 {
		from, allowed := home, false
		if i >= 4 {
			from, allowed = office, true
		}
		coming.Go(func() {
			var mine []*connection
			for !over.Load() {
				c := w.enterableFrom(from)
				err := c.authorize()
				if err == nil {
					err = c.enter()
				}
				if err != nil {
					c.end(err)
				} else {
					mine = append(mine, c)
				}
				if allowed && (err != nil || anyTold(mine)) {
					t.Errorf("a session that every policy allows is ended: %v", err)
					return
				}
				if len(mine) == 8 {
					if mine[0].told() {
						told.Add(1)
					}
					mine[0].end(errDone)
					mine = mine[1:]
				}
			}
		})
	}
	swaps := 1000
	if testing.Short() {
		swaps = 50
	}
	for i := range swaps / 2 {
		w.apply(fmt.Sprint("with ", i), bothIn, "client_auth: off")
		w.apply(fmt.Sprint("without ", i), officeIn, "client_auth: off")
	}
	over.Store(true)
	coming.Wait()

	eventually.OK(t, patience, func() error {
		for _, c := range w.sessions.table.list() {
			if c.told() != (c.addr == home) {
				return fmt.Errorf("a session from %v was told to end: %v", c.addr, c.told())
			}
		}
		return nil
	})
	for _, c := range w.sessions.table.list() {
		c.end(errDone)
	}
	eventually.OK(t, patience, func() error {
		for _, r := range w.sessions.Receipts() {
			if r.InForceAt.IsZero() || r.InForceAt.Before(r.AppliedAt) {
				return fmt.Errorf("generation %q is not in force: %+v", r.Generation, r)
			}
		}
		return nil
	})
	w.wait()
	if told.Load() == 0 {
		t.Error("no session was ever told to end: the test shows nothing")
	}
	t.Logf("%d swaps, %d live sessions told to end", swaps, told.Load())
}

// enterableFrom is a connection from an address that has sent its startup packet.
func (w *world) enterableFrom(from netip.Addr) *connection {
	c := w.enterable()
	c.addr = from
	return c
}

// told reports whether the session was told to end.
func (c *connection) told() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped != nil
}

func anyTold(list []*connection) bool {
	for _, c := range list {
		if c.told() {
			return true
		}
	}
	return false
}

// A session can begin while a sweep runs, too late to be in its list. The next sweep must still come in time for it.
func TestSessionThatBeginsDuringASweepEndsInTime(t *testing.T) {
	w := newWorld(t, nil)
	end := time.Now().Add(30 * time.Second)
	w.apply("2", "ip_rules: [{id: home, cidr: 203.0.113.0/24, expires_at: "+end.UTC().Format(time.RFC3339)+"}]", "client_auth: off")
	c := w.enterable()
	if err := c.authorize(); err != nil {
		t.Fatal(err)
	}
	var swept sync.WaitGroup
	w.sessions.receipts.mu.Lock() // the sweep waits here, with its list or without it
	swept.Go(func() { w.sessions.sweepOnce(time.Now()) })
	eventually.OK(t, patience, func() error {
		if w.sessions.nextSweep.Load() == 0 {
			return errors.New("the sweep has not said when the next one comes")
		}
		return nil
	})
	if err := c.enter(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.sessions.sweep:
	default:
		t.Error("no sweep is due before the end of the session's rule")
	}
	w.sessions.receipts.mu.Unlock()
	swept.Wait()
	c.end(errDone)
}
