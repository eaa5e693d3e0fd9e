package acme

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/acmetest"
)

// Whatever clock and window are, the next look is in the future or an order is made, and no certificate is replaced in
// the first tenth of its life.
func TestTheNextRenewalIsAlwaysAheadOrDue(t *testing.T) {
	start := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(1, 2))
	between := func(from, to time.Duration) time.Duration {
		return from + time.Duration(random.Int64N(int64(to-from)))
	}
	for range 20_000 {
		life := between(time.Minute, 400*24*time.Hour)
		leaf := &Leaf{ID: fmt.Sprint(random.Uint64()), NotBefore: start, NotAfter: start.Add(life)}
		if random.IntN(2) == 0 {
			from := start.Add(between(-life, 2*life))
			leaf.Window = &Window{Start: from, End: from.Add(between(time.Second, life))}
			leaf.SelectedAt = leaf.Window.draw()
			if leaf.SelectedAt.Before(leaf.Window.Start) || !leaf.SelectedAt.Before(leaf.Window.End) {
				t.Fatalf("%s is not in %+v", leaf.SelectedAt, leaf.Window)
			}
		}
		at := leaf.renewAt("seed")
		if at.Before(start.Add(life/young)) || !at.Before(leaf.NotAfter) {
			t.Fatalf("renewed at %s of a life of %s, window %+v", at.Sub(start), life, leaf.Window)
		}
		now := start.Add(between(-life, 2*life))
		if next := leaf.nextAsk(leaf.ID, now); !next.After(now) || next.Sub(now) > askInterval {
			t.Fatalf("asks %s after now", next.Sub(now))
		}
	}
}

func TestACertificateIsRenewedByItsLifetimeWhereNothingElseIsKnown(t *testing.T) {
	start := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for life, reserve := range map[time.Duration]time.Duration{
		90 * 24 * time.Hour: 30 * 24 * time.Hour,
		45 * 24 * time.Hour: 15 * 24 * time.Hour,
		160 * time.Hour:     80 * time.Hour,
	} {
		leaf := &Leaf{ID: "x", NotBefore: start, NotAfter: start.Add(life)}
		if left := leaf.NotAfter.Sub(leaf.renewAt("seed")); left < reserve || left > reserve+life/30 {
			t.Errorf("of %s, renewed %s before the end", life, left)
		}
	}
}

func TestWindowsThatAreNoneAreNotTaken(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", `{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"}}`,
		`{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-02T00:00:00Z"}}`, `{"suggestedWindow":{"end":"2026-01-02T00:00:00Z"}}`, `{"suggestedWindow":`} {
		answer := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text))}
		if w, err := readWindow(answer); err == nil {
			t.Errorf("%q: %+v", text, w)
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add(`{"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"},"explanationURL":"https://example.com"}`)
	f.Fuzz(func(t *testing.T, text string) {
		answer := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text))}
		if w, err := readWindow(answer); err == nil {
			w.draw() // it panics if there is nothing between start and end
		}
	})
}

// askNow lets time go by until renewal information of a certificate has been asked for once more.
func (w *world) askNow() {
	w.t.Helper()
	before := w.faults.Requests(acmetest.RenewalInfoPath)
	for w.faults.Requests(acmetest.RenewalInfoPath) == before {
		if did, next := w.step(); !did {
			w.pass(max(next.Sub(w.now()), time.Millisecond))
		}
	}
}

func window(from, to time.Time) string {
	return fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q},"explanationURL":"https://example.com/why"}`, from.Format(time.RFC3339), to.Format(time.RFC3339))
}

func TestARenewalFollowsTheAuthoritysWindowAndNamesItsPredecessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	id := w.want("db." + zone)
	w.settle()
	first := w.issued(id)
	chain, _, err := w.LeafFiles(w.ctx, first.Leaf.ID)
	w.done(err)
	from := first.Leaf.NotBefore.Add(20 * 24 * time.Hour)
	w.ca.SetRenewalWindow(chain, window(from, from.Add(24*time.Hour)))
	w.askNow()
	w.settle()
	told := w.is(id)
	if told.Leaf.Window == nil || told.Leaf.Window.URL != "https://example.com/why" || told.RenewAt() != told.Leaf.SelectedAt {
		t.Fatalf("%+v", told.Leaf)
	}
	w.askNow()
	if again := w.is(id); again.Leaf.SelectedAt != told.Leaf.SelectedAt || again.revision != told.revision {
		t.Error("the same window changed the moment")
	}
	// A revocation of everybody's certificates: the window is over already.
	w.pass(from.Add(-10 * 24 * time.Hour).Sub(w.now()))
	w.ca.SetRenewalWindow(chain, window(first.Leaf.NotBefore, first.Leaf.NotBefore.Add(time.Hour)))
	w.askNow()
	w.settle()
	second := w.issued(id)
	if second.Leaf.ID == first.Leaf.ID || second.Previous != first.Leaf.ID {
		t.Fatalf("not renewed: %+v", second.Leaf)
	}
	if second.Leaf.Window != nil {
		t.Errorf("the successor took over its predecessor's window")
	}
	if spent := w.authorities[0].budget.state.Orders.Spent; spent != 0 && w.authorities[0].NewOrders.Burst > 0 {
		t.Errorf("a renewal that names its predecessor was counted: %v", spent)
	}
	if _, _, err := w.LeafFiles(w.ctx, first.Leaf.ID); err != nil {
		t.Errorf("the predecessor's files are gone before every proxy can have taken the successor: %v", err)
	}
}

// An authority revokes what it has issued, and says so by windows that are over. Its limits don't count these renewals, and
// ours do neither: all are replaced although no new certificate could be ordered for a day.
func TestAllAreRenewedAtOnceWhenTheAuthoritySaysSo(t *testing.T) {
	t.Parallel()
	const many = 12
	w := newWorld(t, acmetest.Options{}, nil, func(_ *world, o *Options) {
		o.CAs[0].NewOrders = Limit{Burst: 2 * many, Every: 24 * time.Hour}
	})
	first := map[string]string{} // leaf by certificate
	for i := range many {
		first[w.want(fmt.Sprintf("db%d.%s", i, zone))] = ""
	}
	w.settle()
	w.pass(10 * 24 * time.Hour)
	for id := range first {
		cert := w.issued(id)
		first[id] = cert.Leaf.ID
		chain, _, err := w.LeafFiles(w.ctx, cert.Leaf.ID)
		w.done(err)
		w.ca.SetRenewalWindow(chain, window(cert.Leaf.NotBefore, cert.Leaf.NotBefore.Add(time.Hour)))
	}
	w.authorities[0].budget.state.Orders = bucket{Spent: 2 * many, At: w.now()} // as after so many new ones today
	for end := w.now().Add(24 * time.Hour); w.now().Before(end); {
		if next := w.settle(); !next.IsZero() {
			w.pass(max(next.Sub(w.now()), time.Millisecond))
		}
	}
	for id, leaf := range first {
		if now := w.issued(id); now.Leaf.ID == leaf || now.Previous != leaf {
			t.Errorf("certificate %s was not renewed: %+v", id, now.Leaf)
		}
	}
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 2*many {
		t.Errorf("%d orders were asked for", n)
	}
}

func TestALeafThatWasReplacedBeforeIsRenewedAllTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	id := w.want("db." + zone)
	w.settle()
	first := w.issued(id)
	w.faults.Fail(acmetest.NewOrderPath, 1, acmetest.Problem(http.StatusConflict, "alreadyReplaced", "it was replaced"))
	w.done(w.Renew(w.ctx, id, false))
	w.noted(id)
	w.settle()
	if second := w.issued(id); second.Leaf.ID == first.Leaf.ID || second.NoReplace {
		t.Errorf("%+v", second)
	}
	for _, kind := range w.kinds() {
		if kind == EventFailed {
			t.Error("it counted as a failure")
		}
	}
}
