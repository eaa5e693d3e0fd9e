package acme

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/acmetest"
)

// Each warning is given once, in its order, while the authority is away; a renewal ends them.
func TestWarningsOfAnEndThatComesNearAreGivenOnceEach(t *testing.T) {
	t.Parallel()
	for life, want := range map[time.Duration][3]time.Duration{ // what is left at each warning
		90 * 24 * time.Hour: {30 * 24 * time.Hour, 15 * 24 * time.Hour, 24 * time.Hour},
		160 * time.Hour:     {160 * time.Hour / 3, 160 * time.Hour / 6, 160 * time.Hour / 12},
	} {
		t.Run(life.String(), func(t *testing.T) {
			t.Parallel()
			w, _ := newOutage(t, CA{})
			w.log = zerolog.Nop()
			end := w.now().Add(life)
			leaf := leafUntil("db", end)
			leaf.NotBefore = w.now()
			w.fillWith(Certificate{ID: "db", Space: "acme", Names: []string{"db.example.com"}, CreatedAt: w.now(), UpdatedAt: w.now(), Reason: Issued, Leaf: leaf})
			for w.now().Before(end.Add(24 * time.Hour)) {
				if did, next := w.step(); !did {
					w.pass(min(max(next.Sub(w.now()), time.Millisecond), lookAtMost))
				}
			}
			if got := w.kinds(); !slices.Equal(got, []EventKind{EventFailing, EventFailing, EventFailing, EventExpired}) {
				t.Fatalf("events %q", got)
			}
			for i, left := range want {
				e := w.events[i]
				if got := end.Sub(e.At); got > left || got < left-life/20-10*time.Minute || e.Certificate.Warned != Warning(i+1) {
					t.Errorf("warning %d came %s before the end, want %s", e.Certificate.Warned, got, left)
				}
			}
			if left := end.Sub(w.events[3].At); left > 0 || left < -10*time.Minute {
				t.Errorf("the end was told %s after it", -left)
			}
		})
	}
}

func TestARenewalInTimeWarnsNobody(t *testing.T) {
	start := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for _, life := range []time.Duration{time.Hour, 160 * time.Hour, 45 * 24 * time.Hour, 398 * 24 * time.Hour} {
		cert := &Certificate{ID: "x", Leaf: &Leaf{ID: "y", NotBefore: start, NotAfter: start.Add(life)}}
		for _, at := range []time.Time{start, start.Add(life / 2), cert.RenewAt(), cert.RenewAt().Add(min(overdueAfter, life/60) - time.Second)} {
			if got := cert.warning(at); got != notWarned {
				t.Errorf("of a life of %s, warned %d after %s", life, got, at.Sub(start))
			}
		}
		cert.RemovedAt = start
		if got := cert.warning(start.Add(2 * life)); got != notWarned {
			t.Error("warned of one that nobody wants")
		}
	}
}

func TestACompromisedLeafIsRevokedWhenItsSuccessorIsEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	id := w.want("db." + zone)
	w.settle()
	old := w.issued(id).Leaf
	w.done(w.Renew(w.ctx, id, true))
	w.noted(id)
	w.settle()
	fresh := w.issued(id)
	if fresh.Leaf.ID == old.ID || fresh.Revoke == nil || fresh.Revoke.ID != old.ID {
		t.Fatalf("%+v", fresh)
	}
	if w.ca.Revoked(old.Serial) {
		t.Fatal("revoked while proxies may still serve it")
	}
	w.done(w.Delivered(w.ctx, id, old.ID)) // not the one that counts
	if w.is(id).RevokeNow {
		t.Error("to be revoked before its successor is everywhere")
	}
	w.done(w.Delivered(w.ctx, id, fresh.Leaf.ID))
	w.noted(id)
	w.settle()
	if !w.ca.Revoked(old.Serial) || w.ca.Revoked(fresh.Leaf.Serial) {
		t.Error("not revoked, or the wrong one")
	}
	if cert := w.is(id); cert.Revoke != nil || cert.RevokeNow || !slices.Contains(w.kinds(), EventRevoked) {
		t.Errorf("%+v", cert)
	}
	// What was revoked in another way is as good.
	cert := w.is(id)
	cert.Revoke, cert.RevokeNow = old, true
	tx := new(store.Tx)
	w.done(put(tx, keyCertificates+id, cert.revision, cert))
	_, err := w.docs.Commit(w.ctx, tx)
	w.done(err)
	w.noted(id)
	w.settle()
	if w.is(id).Revoke != nil {
		t.Error("it is tried again and again")
	}
	if serial, ok := new(big.Int).SetString(old.Serial, 16); !ok || serial.Sign() <= 0 || strings.ToLower(old.Serial) != old.Serial {
		t.Errorf("serial %q", old.Serial)
	}
}
