package acme

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/store"
)

// away is an authority that can't be reached.
type away struct{ requests atomic.Int64 }

func (a *away) RoundTrip(*http.Request) (*http.Response, error) {
	a.requests.Add(1)
	return nil, errors.New("no route to host")
}

// newOutage is a world whose authority is away.
func newOutage(t *testing.T, ca CA) (*world, *away) {
	t.Helper()
	gone := &away{}
	w := &world{t: t, moment: time.Now().UTC()}
	// Nothing answers on the port of the directory, so that the library's memory of directories, which is everybody's,
	// does not know this one.
	ca.Name, ca.Directory = "away", "https://"+t.Name()+".invalid/dir"
	w.open(Options{CAs: []CA{ca}, Solver: solverFunc(nil), Transport: gone})
	return w, gone
}

// fillWith puts certificates into the store, many in a transaction, and starts the leader anew.
func (w *world) fillWith(certs ...Certificate) {
	w.t.Helper()
	for chunk := range slices.Chunk(certs, 100) {
		tx := new(store.Tx)
		for _, cert := range chunk {
			w.done(put(tx, keyCertificates+cert.ID, 0, cert))
		}
		_, err := w.docs.Commit(w.ctx, tx)
		w.done(err)
	}
	w.restart()
}

// leafUntil is a leaf of 45 days that ends at a moment.
func leafUntil(id string, end time.Time) *Leaf {
	return &Leaf{ID: "leaf-" + id, CA: "away", Names: []string{id + ".example.com"}, NotBefore: end.Add(-45 * 24 * time.Hour), NotAfter: end, ARI: "aki." + id}
}

func TestAnAuthorityThatIsAwayForADayIsAskedSeldomAndMissesNobody(t *testing.T) {
	t.Parallel()
	w, gone := newOutage(t, CA{NewOrders: Limit{Burst: 250, Every: 40 * time.Second}})
	w.log = zerolog.Nop()
	var certs []Certificate
	for i := range 1000 {
		id := fmt.Sprintf("db-%04d", i)
		cert := Certificate{ID: id, Space: "acme", Names: []string{id + ".example.com"}, CreatedAt: w.now(), UpdatedAt: w.now(), Reason: Queued}
		if i%2 == 0 {
			cert.Leaf, cert.Reason = leafUntil(id, w.now().Add(time.Duration(i)*time.Hour/10)), Issued
		}
		certs = append(certs, cert)
	}
	w.fillWith(certs...)
	start := w.now()
	for w.now().Sub(start) < 24*time.Hour {
		if did, next := w.step(); !did {
			w.pass(max(next.Sub(w.now()), time.Millisecond))
		}
	}
	if n := gone.requests.Load(); n < 100 || n > 200 {
		t.Errorf("%d requests in a day without an answer", n)
	}
	p := w.waits("db-0001", CAUnavailable, "no route to host")
	if p.NextAttempt.IsZero() || p.NextAttempt.Sub(w.now()) > 12*time.Minute {
		t.Errorf("next attempt at %s", p.NextAttempt)
	}
	// The first one to come is the one that ends first.
	var order []string
	for len(order) < 20 {
		for did, next := w.step(); !did; did, next = w.step() {
			w.pass(max(next.Sub(w.now()), time.Millisecond))
		}
		w.authorities[0].budget.state = budget{revision: w.authorities[0].budget.state.revision} // as an answer would
		j, _ := w.q.next(w.now())
		if j == nil {
			continue
		}
		if j.warn {
			w.finish(w.q, w.work(w.ctx, j))
			continue
		}
		order = append(order, j.id)
		w.q.set(j, w.now().Add(100*24*time.Hour))
	}
	if !slices.IsSorted(order) {
		t.Errorf("served in the order %q", order)
	}
}

func TestTenThousandDueAtOnceStayWithinTheBudgetAndAreFair(t *testing.T) {
	t.Parallel()
	const burst, every = 250, 36 * time.Second
	w, _ := newOutage(t, CA{NewOrders: Limit{Burst: burst, Every: every}, Certificates: Limit{Burst: 5000, Every: time.Hour}})
	w.log = zerolog.Nop()
	var certs []Certificate
	for i := range 10_000 {
		id := fmt.Sprintf("db-%05d", i)
		space := "large"
		if i%100 == 99 {
			space = "small"
		}
		certs = append(certs, Certificate{ID: id, Space: space, Names: []string{id + ".example.com"}, CreatedAt: w.now(), UpdatedAt: w.now().Add(time.Duration(i)), Reason: Queued})
	}
	w.fillWith(certs...)
	start := w.now()
	b := w.authorities[0].budget
	taken, small := 0, 0
	for w.now().Sub(start) < 3*time.Hour {
		j, next := w.q.next(w.now())
		if j == nil {
			w.pass(max(next.Sub(w.now()), time.Millisecond))
			continue
		}
		tx := new(store.Tx)
		wait, err := b.take(w.ctx, tx, j.cert.Names, false)
		w.done(err)
		if wait > 0 {
			t.Fatalf("the queue gave a certificate out for which there is no token for %s", wait)
		}
		taken++
		if j.cert.Space == "small" {
			small++
		}
		w.q.set(j, w.now().Add(1000*time.Hour))
		if limit := burst*4/5 + 1 + int(w.now().Sub(start)/every); taken > limit {
			t.Fatalf("%d orders after %s, where %d are allowed", taken, w.now().Sub(start), limit)
		}
	}
	if want := burst*4/5 + int(3*time.Hour/every); taken < want-2 {
		t.Errorf("%d orders, want %d: the budget is not used", taken, want)
	}
	if small != 100 {
		t.Errorf("%d of the 100 certificates of the small space came in 3 hours", small)
	}
	// What is kept back is for renewals.
	if order, _ := b.tokens([]string{"db.example.com"}, true); order > 0 {
		t.Errorf("a renewal waits for %s", order)
	}
}

func TestARestartAsksNothingThatWasNotDue(t *testing.T) {
	t.Parallel()
	w, gone := newOutage(t, CA{})
	var certs []Certificate
	for i := range 500 {
		id := fmt.Sprintf("db-%05d", i)
		certs = append(certs, Certificate{ID: id, Space: "acme", Names: []string{id + ".example.com"}, CreatedAt: w.now(), UpdatedAt: w.now(),
			Leaf: leafUntil(id, w.now().Add(44*24*time.Hour)), Reason: Issued})
	}
	w.fillWith(certs...)
	for range 5 {
		w.restart()
		if did, next := w.step(); did || !next.After(w.now()) {
			t.Fatalf("something is due after a restart, or at %s", next)
		}
	}
	if n := gone.requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestOneDomainWithoutATokenHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w, _ := newOutage(t, CA{Certificates: Limit{Burst: 1, Every: time.Hour}})
	var certs []Certificate
	for i, name := range []string{"a.example.com", "b.example.com", "c.example.com", "db.customer.org"} {
		certs = append(certs, Certificate{ID: name, Space: "acme", Names: []string{name}, CreatedAt: w.now(), UpdatedAt: w.now().Add(time.Duration(i) - 10), Reason: Queued})
	}
	w.fillWith(certs...)
	var served []string
	for {
		j, _ := w.q.next(w.now())
		if j == nil {
			break
		}
		_, err := w.authorities[0].budget.take(w.ctx, new(store.Tx), j.cert.Names, false)
		w.done(err)
		served = append(served, j.id)
	}
	if !slices.Equal(served, []string{"a.example.com", "db.customer.org"}) {
		t.Errorf("served %q", served)
	}
	if p := w.waits("b.example.com", Queued, "the limits of away"); p.NextAttempt.Sub(w.now()) < 50*time.Minute {
		t.Errorf("next attempt after %s", p.NextAttempt.Sub(w.now()))
	}
}

func TestSecretsOfTheConfigurationAreNotPrinted(t *testing.T) {
	ca := CA{Name: "x", EAB: &EAB{KeyID: "kid", MACKey: "hidden"}}
	key := TSIGKey{Name: "acme.", Algorithm: "hmac-sha256.", secret: "hidden"}
	for _, text := range []string{fmt.Sprint(ca), fmt.Sprintf("%+v", ca), fmt.Sprint(key), fmt.Sprintf("%+v", key)} {
		if strings.Contains(text, "hidden") {
			t.Error(text)
		}
	}
}
