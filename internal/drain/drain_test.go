package drain

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/relay"
)

// house is a proxy that drains. What happens in it is told with the time at which it does, in seconds.
type house struct {
	began time.Time

	mu       sync.Mutex
	told     []string
	sessions map[string]*guest
	coming   int
	empty    chan struct{}
}

// guest is a session, or a connection that is none yet.
type guest struct {
	leavesAt relay.When // the latest moment that it obeys
	deaf     bool       // it obeys none, and its query can't be cancelled
	inside   bool       // of a query or a transaction
	querying bool       // one that ends when it is cancelled
	gone     bool
}

func newHouse(sessions map[string]*guest) *house {
	h := &house{began: time.Now(), sessions: sessions, empty: make(chan struct{})}
	h.look()
	return h
}

func (h *house) tell(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, fmt.Sprintf("%g %s", time.Since(h.began).Seconds(), what))
}

// end is the end of the sessions that fit.
func (h *house) end(fits func(*guest) bool) {
	h.mu.Lock()
	for _, g := range h.sessions {
		g.gone = g.gone || fits(g)
	}
	h.mu.Unlock()
	h.look()
}

// look tells those who wait when nobody is left.
func (h *house) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.sessions {
		if !g.gone {
			return
		}
	}
	select {
	case <-h.empty:
	default:
		close(h.empty)
	}
}

func (h *house) Entered(s Step)  { h.tell(string(s)) }
func (h *house) CloseListeners() { h.tell("close listeners") }
func (h *house) RefuseNew()      { h.tell("refuse new") }
func (h *house) StartingUp() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.coming > 0
}
func (h *house) Stop(when relay.When) {
	h.tell("stop " + map[relay.When]string{relay.AtBoundary: "at a boundary", relay.WhenIdle: "when idle", relay.OutsideTransaction: "outside a transaction"}[when])
	h.end(func(g *guest) bool { return !g.deaf && !g.querying && when <= g.leavesAt })
}
func (h *house) CancelQueries(context.Context) {
	h.tell("cancel")
	h.end(func(g *guest) bool { return g.querying })
}
func (h *house) Abort() {
	h.tell("abort")
	h.end(func(*guest) bool { return true })
}
func (h *house) Busy() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.sessions {
		if g.inside && !g.gone {
			n++
		}
	}
	return n
}
func (h *house) Quiet(ctx context.Context) error {
	select {
	case <-h.empty:
		return nil
	default:
	}
	select {
	case <-h.empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// The guests.
func idle() *guest          { return &guest{leavesAt: relay.OutsideTransaction} }
func inTransaction() *guest { return &guest{leavesAt: relay.WhenIdle, inside: true} }
func inQuery() *guest       { return &guest{leavesAt: relay.WhenIdle, inside: true, querying: true} }
func uncancelled() *guest   { return &guest{leavesAt: relay.AtBoundary, inside: true} }
func unreading() *guest     { return &guest{deaf: true, inside: true} }

const begin = "0 leaving|0 close listeners|0 finishing|0 refuse new|0 stop outside a transaction|"

// Each row goes along some of the arrows in docs/lifecycle.md.
func TestDrainTakesItsSteps(t *testing.T) {
	for name, c := range map[string]struct {
		guests     map[string]*guest
		drain      Drain
		coming     int                // connections on their way in
		in         float64            // when they are, in seconds
		leaves     map[string]float64 // who leaves by themselves, and when
		signal     float64            // when another signal comes; 0: never
		want, lost string             // the steps, and the error
	}{
		"nobody is there":                        {want: begin + "0 drained"},
		"an idle session ends at once":           {guests: map[string]*guest{"a": idle()}, drain: Drain{Grace: time.Hour}, want: begin + "0 drained"},
		"a ready delay is served through":        {drain: Drain{ReadyDelay: 5 * time.Second}, want: "0 leaving|5 close listeners|5 finishing|5 refuse new|5 stop outside a transaction|5 drained"},
		"a transaction ends within the grace":    {guests: map[string]*guest{"a": idle(), "b": inTransaction()}, leaves: map[string]float64{"b": 20}, drain: Drain{Grace: 30 * time.Second}, want: begin + "20 drained"},
		"the grace begins behind the delay":      {guests: map[string]*guest{"b": inTransaction()}, leaves: map[string]float64{"b": 34}, drain: Drain{ReadyDelay: 5 * time.Second, Grace: 30 * time.Second}, want: "0 leaving|5 close listeners|5 finishing|5 refuse new|5 stop outside a transaction|34 drained"},
		"a transaction outlives the grace":       {guests: map[string]*guest{"b": inTransaction()}, drain: Drain{Grace: 30 * time.Second}, want: begin + "30 cutting|30 stop when idle|30 cancel|30 drained", lost: "1 sessions were cut off: the drain's grace is over"},
		"a query outlives the grace":             {guests: map[string]*guest{"b": inQuery()}, drain: Drain{Grace: 30 * time.Second}, want: begin + "30 cutting|30 stop when idle|30 cancel|30 drained", lost: "1 sessions were cut off: the drain's grace is over"},
		"a query can't be cancelled":             {guests: map[string]*guest{"b": uncancelled()}, drain: Drain{}, want: begin + "0 cutting|0 stop when idle|0 cancel|2 stop at a boundary|2 drained", lost: "1 sessions were cut off: the drain's grace is over"},
		"a client does not read":                 {guests: map[string]*guest{"b": unreading()}, drain: Drain{}, want: begin + "0 cutting|0 stop when idle|0 cancel|2 stop at a boundary|3 closing|3 abort|3 drained", lost: "1 sessions were cut off: the drain's grace is over"},
		"a told client does not leave":           {guests: map[string]*guest{"b": {deaf: true}}, drain: Drain{Grace: time.Second}, want: begin + "1 cutting|1 stop when idle|1 cancel|3 stop at a boundary|4 closing|4 abort|4 drained"},
		"a second signal skips the delay":        {drain: Drain{ReadyDelay: time.Hour}, signal: 3, want: "0 leaving|3 close listeners|3 finishing|3 refuse new|3 stop outside a transaction|3 drained"},
		"a second signal skips the grace":        {guests: map[string]*guest{"a": inTransaction(), "b": inQuery()}, drain: Drain{Grace: time.Hour}, signal: 3, want: begin + "3 cutting|3 stop when idle|3 cancel|3 drained", lost: "2 sessions were cut off: a second signal came"},
		"another process has the sockets":        {drain: Drain{HandedOver: true, ReadyDelay: time.Hour, Startup: 10 * time.Second}, want: "0 letting_in|0 close listeners|1 finishing|1 refuse new|1 stop outside a transaction|1 drained"},
		"who came before it is let in":           {coming: 1, in: 3.99, drain: Drain{HandedOver: true, Startup: 10 * time.Second}, want: "0 letting_in|0 close listeners|4 finishing|4 refuse new|4 stop outside a transaction|4 drained"},
		"who does not come in is not waited for": {coming: 1, in: 60, drain: Drain{HandedOver: true, Startup: 10 * time.Second}, want: "0 letting_in|0 close listeners|10 finishing|10 refuse new|10 stop outside a transaction|10 drained"},
		"a signal ends the letting in":           {coming: 1, in: 60, guests: map[string]*guest{"a": inTransaction()}, drain: Drain{HandedOver: true, Startup: 10 * time.Second, Grace: time.Hour}, signal: 3, want: "0 letting_in|0 close listeners|3 finishing|3 refuse new|3 stop outside a transaction|3 cutting|3 stop when idle|3 cancel|3 drained", lost: "1 sessions were cut off: a second signal came"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(c.guests)
				h.coming = c.coming
				after := func(seconds float64, f func()) { time.AfterFunc(time.Duration(seconds*float64(time.Second)), f) }
				after(c.in, func() { h.mu.Lock(); defer h.mu.Unlock(); h.coming = 0 })
				for who, when := range c.leaves {
					after(when, func() { h.end(func(g *guest) bool { return g == c.guests[who] }) })
				}
				signals := make(chan os.Signal, 1)
				if c.signal > 0 {
					after(c.signal, func() { signals <- os.Interrupt })
				}
				d := c.drain
				d.Target, d.SecondSignal = h, signals
				err := d.Run(t.Context())
				if want := strings.Split(c.want, "|"); !slices.Equal(h.told, want) {
					t.Errorf("the drain's steps are\n%s\nwant\n%s", strings.Join(h.told, "\n"), strings.Join(want, "\n"))
				}
				if text := fmt.Sprint(err); c.lost == "" && err != nil || c.lost != "" && text != c.lost {
					t.Errorf("the drain ends with %v, want %q", err, c.lost)
				}
			})
		})
	}
}
