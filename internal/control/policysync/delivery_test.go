package policysync

import (
	"path/filepath"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/testkit/must"
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/policyformat/policytest"
)

func TestAPolicyIsInForceAtARealProxy(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), nil)
	s, c := policytest.NewSpace(t), p.courier()
	reports := deliver(t, c, s.Policy(t, edition{Generation: 7}))
	last := reports[len(reports)-1]
	if last.Applied != 7 || last.InForce != 7 || last.AppliedAt.IsZero() || last.InForceAt.Before(last.AppliedAt) || last.Error != "" {
		t.Errorf("the last report is %+v", last)
	}
	seen, err := c.Observe(t.Context())
	must.OK(t, err)
	if seen.Applied != 7 || seen.OnDisk != 7 || seen.Drift != "" || seen.ProxyVersion == "" {
		t.Errorf("observed: %+v", seen)
	}
}

func BenchmarkPublishUntilInForce(b *testing.B) {
	p := startProxy(b, filepath.Join(b.TempDir(), "policy"), nil)
	s, c := policytest.NewSpace(b), p.courier()
	deliver(b, c, s.Policy(b, edition{Generation: 1}))
	policies := make([]api.Policy, 0, b.N)
	for i := range b.N {
		policies = append(policies, s.Policy(b, edition{Generation: int64(i) + 2}))
	}
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for _, policy := range policies {
		began := time.Now()
		deliver(b, c, policy)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
}

func BenchmarkPublish(b *testing.B) {
	s := policytest.NewSpace(b)
	c := &Publisher{Database: database, Dir: filepath.Join(b.TempDir(), "policy")}
	generation := int64(0)
	for b.Loop() {
		generation++
		if _, err := c.Publish(b.Context(), s.Policy(b, edition{Generation: generation})); err != nil {
			b.Fatal(err)
		}
	}
}
