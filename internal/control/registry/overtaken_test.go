package registry

import (
	"fmt"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/outbox"
)

// What the proxy says besides may be what it said before: an acknowledgement that is no news must not drop the number.
func TestProxyAheadIsNoticedWhateverElseItSays(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	proxy := db.Proxies[0].Name
	before := w.is("orders").Generation
	silent := api.Report{Error: "policy.yaml does not exist"}
	w.says(db, proxy, silent)
	ahead := silent
	ahead.OnDisk = before + 3
	w.says(db, proxy, ahead)
	if got := w.is("orders").Generation; got != before+4 {
		t.Errorf("the generation is %d, want %d", got, before+4)
	}
	if n := w.count("policy.overtaken"); n != 1 {
		t.Errorf("%d records tell of it", n)
	}
	pending, err := w.outbox.Pending(w.ctx)
	w.done(pending, err)
	told := 0
	for _, n := range pending {
		if n.Kind == outbox.PolicyOvertaken && n.Proxy == proxy && n.Database == "orders" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d notices tell of it: %+v", told, pending)
	}
}

// An agent with a stolen certificate may say something else in each report. The audit trail, the store and people must not drown in
// it.
func TestWhatAProxySaysOfItselfFillsNothing(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	told := func() (records, notices int) {
		t.Helper()
		for _, action := range []string{"policy.refused", "policy.unreachable", "policy.undeliverable", "policy.drift", "policy.overtaken"} {
			records += w.count(action)
		}
		pending, err := w.outbox.Pending(w.ctx)
		w.done(pending, err)
		for _, n := range pending {
			if n.Kind == outbox.PolicyOvertaken {
				notices++
			}
		}
		return records, notices
	}
	lie := func() {
		for i := range maxProxyRecords {
			w.says(db, "edge", api.Report{Error: fmt.Sprint("error ", i), ErrorKind: api.ErrorUnreachable, Drift: fmt.Sprint("drift ", i), OnDisk: w.is("orders").Generation + 1})
		}
	}
	lie()
	if records, notices := told(); records != maxProxyRecords || notices != 1 {
		t.Errorf("a day of lies makes %d records and %d notices", records, notices)
	}
	w.at = w.at.Add(24 * time.Hour)
	w.says(db, "edge", api.Report{Error: "the next day", ErrorKind: api.ErrorUnreachable, OnDisk: w.is("orders").Generation + 1})
	if records, notices := told(); records != maxProxyRecords+2 || notices != 2 {
		t.Errorf("the next day there are %d records and %d notices", records, notices)
	}
}
