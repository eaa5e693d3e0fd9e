package registry

import (
	"fmt"
	"pgmtls-proxy/internal/control/api"
	"testing"
)

// Run with: go test -run xxx -bench . ./internal/control/registry
// Each change is on disk when it returns, so the disk below the temporary directory (TMPDIR) is measured too.

// One rule is made and acknowledged: two transactions, from the request to Authorized without the way to the proxy.
func BenchmarkCreateRuleAndAcknowledge(b *testing.B) {
	for _, others := range []int{0, MaxRules - 1} {
		b.Run(fmt.Sprintf("beside=%d", others), func(b *testing.B) {
			w := newWorld(b)
			w.operational("orders")
			id := w.rules("orders", others).ID
			b.ReportAllocs()
			for b.Loop() {
				rule := w.rule("orders", "192.0.2.0/24")
				generation := w.generation(id)
				w.says(Database{ID: id}, "edge", api.Report{Applied: generation, InForce: generation})
				b.StopTimer()
				w.done(w.DeleteRule(w.ctx, admin, id, rule.ID))
				w.acknowledged("orders")
				b.StartTimer()
			}
		})
	}
}

// What a proxy is to have is read and written down, the database's key is opened for it.
func BenchmarkPolicy(b *testing.B) {
	for _, rules := range []int{1, MaxRules} {
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) {
			w := newWorld(b)
			w.operational("orders")
			id := w.rules("orders", rules).ID
			b.ReportAllocs()
			for b.Loop() {
				w.done(w.Policy(w.ctx, id))
			}
		})
	}
}

// rules makes so many rules that are in force.
func (w *world) rules(db string, n int) Database {
	w.t.Helper()
	for i := range n {
		w.rule(db, fmt.Sprintf("10.0.%d.0/24", i))
	}
	return w.acknowledged(db)
}

// generation is that of a database's policy.
func (w *world) generation(id string) int64 {
	w.t.Helper()
	db, err := w.load(w.ctx, id)
	w.done(db, err)
	return db.Generation
}
