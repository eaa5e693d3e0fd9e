package session

import (
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/policy"
)

// A dry run names exactly the sessions that the sweep then ends, and ends none itself.
func TestDryRunNamesWhomTheSweepWouldEnd(t *testing.T) {
	for name, row := range map[string]struct {
		lines  []string
		ended  int
		reason string
	}{
		"a rule goes":              {[]string{officeIn}, 1, "address_not_allowed"},
		"a certificate is revoked": {[]string{bothIn, "revoked: ['" + serial(pki().app) + "']"}, 2, "certificate_revoked"},
		"nothing changes":          {[]string{bothIn}, 0, ""},
		"sessions are kept":        {[]string{officeIn, "on_removal: keep"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				first := w.connect(home)
				first.login(pki().app, "app")
				pass(time.Second)
				second := w.connect(office)
				second.login(pki().app, "app")
				next := w.draft("2", row.lines...)
				effect := w.sessions.Table().DryRun(next, time.Now())
				if len(effect.Ended) != row.ended || effect.Kept != 2-row.ended {
					t.Fatalf("%d ended, %d kept, want %d ended: %+v", len(effect.Ended), effect.Kept, row.ended, effect.Ended)
				}
				for i, ending := range effect.Ended {
					if ending.Why.Reason.String() != row.reason || ending.User != "app" || ending.Addr != []any{home, office}[i] || len(ending.ID) != 13 || ending.Grant.Rule.ID != []string{"home", "office"}[i] {
						t.Errorf("%+v for %v", ending, ending.Why)
					}
				}
				if left := len(w.sessions.Table().Sessions()); left != 2 || w.live.Current().Generation != "1" {
					t.Errorf("%d sessions are left under %s", left, w.live.Current().Generation)
				}

				// The sweep agrees.
				w.apply("2", row.lines...)
				w.sessions.sweepOnce(time.Now())
				stopped := 0
				for _, c := range w.sessions.table.list() {
					c.mu.Lock()
					if c.stopped != nil {
						stopped++
					}
					c.mu.Unlock()
				}
				synctest.Wait()
				if gone := 2 - len(w.sessions.Table().Sessions()); max(gone, stopped) != row.ended {
					t.Errorf("the sweep ends %d sessions, %d of them are gone; want %d", stopped, gone, row.ended)
				}
				first.leave()
				second.leave()
				w.wait()
			})
		})
	}
}

// draft builds a policy that is not put in force.
func (w *world) draft(generation string, lines ...string) *policy.Snapshot {
	w.t.Helper()
	next, err := w.keeper.Try(w.t.Context(), policy.Draft{Name: "draft.yaml", Text: []byte(policyText(generation, lines...))})
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}
