package session

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
)

// changed opens the receipt of a snapshot.
func (r *receipts) changed(generation string) *pendingReceipt {
	snapshot := &policy.Snapshot{Generation: generation, Digest: generation, LoadedAt: time.Now()}
	r.open(nil, snapshot)
	p, _ := r.of(snapshot)
	return p
}

// generations are those of the receipts.
func generations(list []Receipt) string {
	var names []string
	for _, r := range list {
		names = append(names, r.Generation)
	}
	return strings.Join(names, " ")
}

func TestReceiptIsCompleteWhenEverySessionWasAskedAndTheLastIsGone(t *testing.T) {
	var r receipts
	first := r.changed("1")
	r.revoke(first, refusal.AddressNotAllowed)
	r.revoke(first, refusal.CertificateRevoked)
	for i, step := range []struct {
		what func() []Receipt
		want string
	}{
		{func() []Receipt { return r.gone(first) }, ""}, // the sweep still asks others
		{func() []Receipt { return r.swept(first, 7) }, ""},
		{func() []Receipt { return r.swept(first, 9) }, ""}, // a later sweep, for what runs out
		{func() []Receipt { return r.gone(first) }, "1"},
		{func() []Receipt { return r.swept(first, 9) }, ""}, // and only once
	} {
		if got := generations(step.what()); got != step.want {
			t.Errorf("step %d completes %q, want %q", i, got, step.want)
		}
	}
	if first.Kept != 7 || first.Ended[refusal.AddressNotAllowed] != 1 || first.Ended[refusal.CertificateRevoked] != 1 {
		t.Errorf("the receipt is %+v", first.Receipt)
	}
}

// A change is not in force while a session lives that the change before has told to end: it would refuse it too.
func TestReceiptWaitsForTheSessionsOfTheChangesBefore(t *testing.T) {
	var r receipts
	first := r.changed("1")
	r.revoke(first, refusal.AddressNotAllowed)
	if got := generations(r.swept(first, 0)); got != "" {
		t.Errorf("completes %q", got)
	}
	r.changed("2") // is replaced before it is swept
	third := r.changed("3")
	if got := generations(r.swept(third, 5)); got != "" {
		t.Errorf("completes %q while a session lives", got)
	}
	if got := generations(r.gone(first)); got != "1 2 3" {
		t.Errorf("completes %q", got)
	}
	if r.list[1].Kept != 5 {
		t.Errorf("what replaced the second kept 5, and its receipt says %d", r.list[1].Kept)
	}
}

// Thirty-two are kept. The sessions of those that are not are still waited for.
func TestReceiptsAreBounded(t *testing.T) {
	var r receipts
	first := r.changed("0")
	r.revoke(first, refusal.AddressNotAllowed)
	r.swept(first, 0)
	var last *pendingReceipt
	for i := range 100 {
		last = r.changed(fmt.Sprint(i + 1))
		if got := r.swept(last, 0); len(got) > 0 {
			t.Fatalf("%q is in force while the session of the first lives", generations(got))
		}
	}
	if len(r.list) != maxReceipts {
		t.Errorf("%d receipts are kept", len(r.list))
	}
	if got := r.gone(first); len(got) != maxReceipts || got[len(got)-1].Generation != "100" {
		t.Errorf("the end of the first one's session completes %q", generations(got))
	}
	if first.InForceAt != (time.Time{}) || last.left != 0 {
		t.Errorf("the first is %+v, the last waits for %d", first, last.left)
	}
}

// While a change is being told, its snapshot is in force and its receipt is not open. The one before is not taken for it.
func TestSweepDoesNotTakeAnotherChangesReceipt(t *testing.T) {
	w := newWorld(t, nil)
	w.keeper.OnApplied = w.sessions.PolicyChanged
	w.apply("2", bothIn, "client_auth: off")
	c := w.enterable()
	if err := c.authorize(); err != nil {
		t.Fatal(err)
	}
	if err := c.enter(); err != nil {
		t.Fatal(err)
	}
	w.keeper.OnApplied = func(previous, next *policy.Snapshot) {
		w.sessions.sweepOnce(time.Now()) // by another cause, just now
		if r := w.newest(); r.Generation != "2" || len(r.Ended) != 0 || c.told() {
			t.Errorf("the change counts for the one before: %+v", r)
		}
		w.sessions.PolicyChanged(previous, next)
	}
	w.apply("3", officeIn, "client_auth: off")
	w.sessions.sweepOnce(time.Now())
	if r := w.newest(); r.Generation != "3" || r.Ended[refusal.AddressNotAllowed] != 1 || !r.InForceAt.IsZero() || !c.told() {
		t.Errorf("the receipt is %+v", r)
	}
	c.end(errDone)
	if r := w.newest(); r.InForceAt.IsZero() {
		t.Errorf("with its last session gone the receipt is %+v", r)
	}
}

func TestReceiptIsLoggedAndCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.sweeping()()
		gone, stays := w.connect(home), w.connect(office)
		gone.login(pki().app, "app")
		stays.login(pki().app, "app")
		w.apply("2", officeIn)
		gone.forbidden("No IP rule allows the address")
		gone.leave()
		pass(10 * time.Minute) // sweeps without a reason
		synctest.Wait()

		var found []map[string]any
		for _, e := range w.journal.events(t) {
			if e["message"] == "policy in force for every session" {
				found = append(found, e)
			}
		}
		if len(found) != 1 {
			t.Fatalf("%d events: %v", len(found), found)
		}
		e, r := found[0], w.newest()
		if e["generation"] != "2" || e["digest"] != r.Digest || e["sessions_ended"] != 1.0 || e["sessions_kept"] != 1.0 ||
			fmt.Sprint(e["ip_rules_removed"]) != "[home 203.0.113.0/24]" {
			t.Errorf("logged as %v", e)
		}
		if n := w.metric("policy_in_force_seconds"); n != 1 {
			t.Errorf("counted %v times", n)
		}
		stays.leave()
	})
}
