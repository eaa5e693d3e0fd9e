package registry

import (
	"fmt"
	"slices"
	"testing"

	"pgmtls-proxy/internal/control/api"
)

// Every state meets every word of the proxies. There are two of them, so that one that has not said it keeps a change
// waiting; the change is of generation 5.
func TestEachStateWaitsForItsWordOfEveryProxy(t *testing.T) {
	const generation = 5
	type said struct{ applied, inForce int64 }
	words := []struct {
		name              string
		proxies           []said
		applied, forcedBy bool // by all
	}{
		{"nothing", []said{{}, {}}, false, false},
		{"an older generation", []said{{4, 4}, {4, 4}}, false, false},
		{"one applied", []said{{5, 4}, {4, 4}}, false, false},
		{"one in force", []said{{5, 5}, {0, 0}}, false, false},
		{"both applied", []said{{5, 4}, {5, 0}}, true, false},
		{"both applied, one in force", []said{{5, 5}, {6, 4}}, true, false},
		{"both in force", []said{{5, 5}, {5, 5}}, true, true},
		{"both later", []said{{7, 6}, {9, 8}}, true, true},
		{"no proxy", nil, false, false},
	}
	states := []struct {
		from    Status
		to      Status // when its word was said by all; empty: it is gone
		word    Word   // empty: it waits for none
		leaving string // audit action
	}{
		{Provisioning, Operational, AppliedWord, "mtls.operational"},
		{Operational, Operational, "", ""},
		{Deprovisioning, "", InForceWord, "mtls.destroyed"},
		{Authorizing, Authorized, AppliedWord, "ip_rule.authorized"},
		{Authorized, Authorized, "", ""},
		{Deauthorizing, "", InForceWord, "ip_rule.deleted"},
		{Pending, Ready, AppliedWord, "certificate.ready"},
		{Ready, Ready, "", ""},
		{Disabling, Disabled, InForceWord, "certificate.disabled"},
		{Disabled, Disabled, "", ""},
	}
	mtls, rules := []Status{Provisioning, Operational, Deprovisioning}, []Status{Authorizing, Authorized, Deauthorizing}
	for _, state := range states {
		for _, word := range words {
			t.Run(fmt.Sprintf("%s, %s", state.from, word.name), func(t *testing.T) {
				db := &Database{ID: "d", Name: "orders", Generation: 9}
				for i, p := range word.proxies {
					db.Proxies = append(db.Proxies, Proxy{Name: fmt.Sprintf("p%d", i), Acknowledged: Acknowledgement{Applied: p.applied, InForce: p.inForce}})
				}
				var is func() Status
				switch {
				case slices.Contains(mtls, state.from):
					db.MTLS = &MTLS{Status: state.from, Generation: generation}
					is = func() Status {
						if db.MTLS == nil {
							return ""
						}
						return db.MTLS.Status
					}
				case slices.Contains(rules, state.from):
					db.Rules = []Rule{{ID: "r", CIDR: "192.0.2.0/24", Status: state.from, Generation: generation}}
					is = func() Status {
						if len(db.Rules) == 0 {
							return ""
						}
						return db.Rules[0].Status
					}
				default:
					db.Certificates = []Certificate{{ID: "c", Name: "app", Status: state.from, Generation: generation}}
					is = func() Status { return db.Certificates[0].Status }
				}
				moved := state.word == AppliedWord && word.applied || state.word == InForceWord && word.forcedBy

				waiting := db.Waiting()
				if waits := state.word != ""; len(waiting) != map[bool]int{true: 1}[waits] {
					t.Fatalf("it waits for %+v", waiting)
				} else if waits && (waiting[0].Until != state.word || waiting[0].Generation != generation ||
					(len(waiting[0].Proxies) == 0) != (moved || word.proxies == nil)) {
					t.Errorf("it waits for %+v", waiting[0])
				}
				c := newChange(db)
				c.advance()
				want := state.from
				if moved {
					want = state.to
				}
				if got := is(); got != want {
					t.Errorf("it became %q, want %q", got, want)
				}
				if _, told := c.settled[state.leaving]; told != moved || len(c.settled) > 1 {
					t.Errorf("settled %+v", c.settled)
				}
			})
		}
	}
}

// Rules and certificates that settle in crowds share a record: a transaction holds 128 changes.
func TestManyThatSettleTogetherShareARecord(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.rules("orders", manyAtOnce)
	if n := w.count("ip_rule.authorized"); n != manyAtOnce {
		t.Errorf("%d records of %d rules", n, manyAtOnce)
	}
	for i := range manyAtOnce + 1 {
		w.rule("orders", fmt.Sprintf("10.1.%d.0/24", i))
	}
	w.acknowledged("orders")
	if n := w.count("ip_rule.authorized"); n != manyAtOnce+1 {
		t.Errorf("%d records, want one more for %d rules that settled together", n, manyAtOnce+1)
	}
}

// A proxy that is merely down has refused nothing.
func TestRecordSaysWhetherAProxyIsDownOrRefuses(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	for _, step := range []struct{ kind, action, kept string }{
		{api.ErrorUnreachable, "policy.unreachable", api.ErrorUnreachable},
		{api.ErrorUndeliverable, "policy.undeliverable", api.ErrorUndeliverable},
		{api.ErrorRefused, "policy.refused", api.ErrorRefused},
		{"", "policy.refused", ""},            // an older agent
		{"of tomorrow", "policy.refused", ""}, // a newer one
	} {
		before := w.count(step.action)
		for range 2 {
			w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Error: "TEXT " + step.kind, ErrorKind: step.kind})
		}
		said := w.is("orders").Proxies[0].Acknowledged
		if n := w.count(step.action) - before; n != 1 || said.ErrorKind != step.kept {
			t.Errorf("%q: %d records %s, and %q is kept", step.kind, n, step.action, said.ErrorKind)
		}
	}
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, ErrorKind: api.ErrorRefused})
	if said := w.is("orders").Proxies[0].Acknowledged; said.ErrorKind != "" {
		t.Errorf("without an error %q is kept", said.ErrorKind)
	}
}

// count counts the audit records of an action.
func (w *world) count(action string) (n int) {
	w.t.Helper()
	for _, a := range w.actions() {
		if a == action {
			n++
		}
	}
	return n
}

func TestReportThatSaysNothingNewChangesNothing(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	before := w.is("orders")
	for _, report := range []api.Report{
		{Applied: db.Generation, InForce: db.Generation},
		{Applied: db.Generation, InForce: db.Generation},
	} {
		w.says(db, "edge", report)
	}
	if after := w.is("orders"); after.revision != before.revision {
		t.Error("the document was written though nothing is new")
	}
	// Each of these is news.
	for _, report := range []api.Report{
		{Applied: db.Generation, InForce: db.Generation, Error: "torn"},
		{Applied: db.Generation, InForce: db.Generation, Error: "torn", Drift: "edited"},
		{Applied: db.Generation, InForce: db.Generation, Error: "torn", Drift: "edited", ProxyVersion: "2"},
		{Applied: db.Generation, InForce: db.Generation, Ended: map[string]int{"revoked": 1}},
	} {
		revision := w.is("orders").revision
		w.says(db, "edge", report)
		if w.is("orders").revision == revision {
			t.Errorf("%+v was no news", report)
		}
	}
	if w.count("policy.refused") != 1 || w.count("policy.drift") != 1 {
		t.Errorf("got %q", w.actions())
	}
	many := make(map[string]int)
	for n := range 40 {
		many[fmt.Sprint(n)] = 1
	}
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Ended: many})
	if got := w.is("orders").Proxies[0].Acknowledged.SessionsEnded; got != nil {
		t.Errorf("%d reasons were kept", len(got))
	}
}
