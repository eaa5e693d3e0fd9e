package registry

import (
	"testing"

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
