package registry

import (
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/outbox"
)

// clockNotices are the notices of proxies' clocks that wait.
func (w *world) clockNotices() (list []outbox.Notice) {
	w.t.Helper()
	notices, err := w.outbox.Pending(w.ctx)
	w.done(notices, err)
	for _, n := range notices {
		if n.Kind == outbox.ProxyClock {
			list = append(list, n)
		}
	}
	return list
}

func TestProxyWhoseClockIsWrongIsShownAndToldOnceADay(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	if clock := db.proxy("edge").Acknowledged.Clock; clock.Known {
		t.Errorf("the proxy has never said its time, and %+v is known", clock)
	}
	for _, step := range []struct {
		name    string
		passes  time.Duration // before the report
		ahead   time.Duration // the proxy's clock
		skew    time.Duration // that is shown then
		notices int           // so far
	}{
		{"right", 0, 0, 0, 0},
		{"within half a minute of what is known", time.Minute, 29 * time.Second, 0, 0},
		{"five minutes ahead", time.Minute, 5 * time.Minute, 5 * time.Minute, 0},
		{"ten minutes ahead", time.Minute, 10 * time.Minute, 10 * time.Minute, 1},
		{"the same again", time.Hour, 10 * time.Minute, 10 * time.Minute, 1},
		{"ten minutes behind", time.Hour, -10 * time.Minute, -10 * time.Minute, 1},
		{"right again", time.Hour, 0, 0, 1},
		{"61 days ahead, on another day", 25 * time.Hour, 61 * day, 61 * day, 2},
		{"far behind", time.Hour, -20 * 365 * day, -20 * 365 * day, 2},
	} {
		w.at = w.at.Add(step.passes)
		w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Time: w.at.Add(step.ahead)})
		is := w.is("orders")
		if clock := is.proxy("edge").Acknowledged.Clock; !clock.Known || clock.Skew != step.skew {
			t.Errorf("%s: the clock is %+v", step.name, clock)
		}
		list := w.clockNotices()
		if len(list) != step.notices {
			t.Fatalf("%s: %d notices: %+v", step.name, len(list), list)
		}
		if step.notices == 1 && (list[0].Proxy != "edge" || list[0].Skew != 10*time.Minute || list[0].Database != "orders" || list[0].Space != "acme") {
			t.Errorf("the notice is %+v", list[0])
		}
	}
	// What is no time changes nothing, and neither does a report without one.
	before := w.is("orders").Proxies[0].Acknowledged.Clock
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		w.says(db, "edge", api.Report{Applied: db.Generation, Time: at})
		if clock := w.is("orders").Proxies[0].Acknowledged.Clock; clock != before {
			t.Errorf("a report of %s makes %+v of %+v", at, clock, before)
		}
	}
}
